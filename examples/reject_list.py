"""Prints the parts to take out by the results of a run, one path a line.

    python examples/reject_list.py runs/photos > reject.txt

Paths of flagged images, the most anomalous first. Uses the standard library alone, so that it runs wherever the results
are copied to.
"""

import json
import sys
from pathlib import Path


def rejected(workdir: Path) -> list[str]:
    """Paths of the flagged images, by rank.

    Raises:
        FileNotFoundError: the run has not finished; its manifest is written last.
    """
    if not (workdir / "manifest.json").is_file():
        raise FileNotFoundError(f"{workdir}: holds no finished run")
    rows = json.loads((workdir / "scores.json").read_text(encoding="utf-8"))
    return [row["path"] for row in sorted(rows, key=lambda row: row["rank"]) if row["flagged"]]


if __name__ == "__main__":
    for path in rejected(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/photos")):
        print(path)
