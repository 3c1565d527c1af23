"""The task `compare`: what differs between two finished runs on the same photos."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegraph_jax.config import CompareConfig
from codegraph_jax.core.file_ownership import note_written, require_own
from codegraph_jax.core.settings import ConfigError, read_config
from codegraph_jax.core.workdir import locked, written_to
from codegraph_jax.evaluation.changes import compare_results
from codegraph_jax.report.changes_page import write_changes
from codegraph_jax.report.outcome import Outcome

PAGE = "compare.html"


def run(values: Mapping[str, Any], workdir: str) -> list[Outcome]:
    """Prints the comparison and writes compare.html.

    Raises:
        ConfigError, RunError, ForeignFileError, WorkdirError: with nothing written.
    """
    config, out = read_config(CompareConfig, values), Path(workdir)
    for field in ("first", "second"):
        if not getattr(config, field):
            raise ConfigError(f"config.{field}: is empty; give two directories of runs: codegraph compare RUN RUN")
    runs = Path(config.first), Path(config.second)
    changes = compare_results(*runs)
    with locked(out), written_to(out):
        require_own(out, [PAGE])
        note_written(out, [PAGE])
        write_changes(out / PAGE, changes, runs)
    print(f"{changes}\n\npage: {out / PAGE}")
    return []
