"""The task `compare`: the changes between two finished runs on the same photos."""

from pathlib import Path

from codegraph_jax.config import CompareConfig
from codegraph_jax.core.file_ownership import writing_own
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.evaluation.changes import compare_results
from codegraph_jax.report.changes_page import write_changes

PAGE = "compare.html"


def run(config: CompareConfig, workdir: str) -> None:
    """Prints the comparison and writes compare.html.

    Raises:
        ConfigError, RunError, ForeignFileError, WorkdirError: with nothing written.
    """
    out = Path(workdir)
    for field in ("before", "after"):
        if not getattr(config, field):
            raise ConfigError(f"config.{field}: is empty; give two directories of runs: codegraph compare RUN RUN")
    runs = Path(config.before), Path(config.after)
    changes = compare_results(*runs)
    with writing_own(out, [PAGE]):
        write_changes(out / PAGE, changes, runs)
    print(f"{changes}\n\npage: {out / PAGE}")
