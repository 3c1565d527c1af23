"""The task `parts`: exports the ledger of a line as CSV."""

from contextlib import closing
from pathlib import Path

from codegraph_jax.core.file_ownership import writing_own
from codegraph_jax.line.ledger import Ledger
from codegraph_jax.line.settings import PartsConfig
from codegraph_jax.tasks.paths import require_line

TABLE = "parts.csv"


def run(config: PartsConfig, workdir: str) -> None:
    """Writes parts.csv; the line may be running.

    Raises:
        ConfigError, LedgerError, ForeignFileError, WorkdirError: with nothing written.
    """
    out = Path(workdir)
    with closing(Ledger(require_line(config.line))) as ledger:
        with writing_own(out, [TABLE]):
            ledger.export(out / TABLE, config.csv)
        counts = ledger.counts()
    print(f"{counts['inspected'] + counts['not_inspected']} parts, {counts['flagged']} flagged, "
          f"{counts['not_inspected']} not inspected: {out / TABLE}")  # fmt: skip
