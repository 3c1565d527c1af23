"""The task `parts`: exports the ledger of a line as CSV."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegraph_jax.core.settings import ConfigError, read_config
from codegraph_jax.core.workdir import locked, written_to
from codegraph_jax.core.written import note_written, require_own
from codegraph_jax.line.ledger import FILE, Ledger
from codegraph_jax.line.settings import PartsConfig
from codegraph_jax.report.outcome import Outcome

TABLE = "parts.csv"


def run(values: Mapping[str, Any], workdir: str) -> list[Outcome]:
    """Writes parts.csv; the line may be running.

    Args:
        values: a ConfigDict, see `codegraph_jax.line.settings.PartsConfig`.
        workdir: directory of the table.

    Raises:
        ConfigError, LedgerError, ForeignFileError, WorkdirError: with nothing written.
    """
    config, out = read_config(PartsConfig, values), Path(workdir)
    if not (Path(config.line) / FILE).is_file():
        raise ConfigError(f"config.line: {config.line!r} holds no {FILE}; give the workdir of a line")
    ledger = Ledger(Path(config.line) / FILE)
    try:
        with locked(out), written_to(out):
            require_own(out, [TABLE])
            note_written(out, [TABLE])
            ledger.export(out / TABLE, config.csv)
        counts = ledger.count()
    finally:
        ledger.close()
    print(f"{counts['judged'] + counts['failed']} parts, {counts['flagged']} flagged, {counts['failed']} failed: "
          f"{out / TABLE}")  # fmt: skip
    return []
