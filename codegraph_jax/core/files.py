"""Writing files so that nobody ever reads half of one; equal content gives equal bytes."""

import csv
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"
"""Names of files that are being written begin so."""


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yields the name of a new file beside `path`; it takes `path`'s place when the block ends without an error.

    Directories that are missing are made. The temporary file keeps the suffix, since writers choose by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL, suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield name
        # mkstemp makes the file private; what a plain open() would give is what people expect of results
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """A text file in UTF-8; what is not, as bytes of a file name may be, shows as an escape."""
    with whole_file(path) as name:
        Path(name).write_text(text, encoding="utf-8", errors="backslashreplace")


def write_csv(
    path: str | os.PathLike[str],
    rows: Iterable[Mapping[str, object]],
    columns: Sequence[str],
    mark: bool = False,
    excel: bool = False,
) -> None:
    """One line a row under a heading; None is an empty cell, and names that are not UTF-8 keep their bytes.

    Args:
        path: the file.
        rows: cells by column.
        columns: in the order of the file.
        mark: begin with a byte order mark.
        excel: write what Excel opens where numbers have decimal commas, as in most of Europe: semicolons between cells,
            commas in the cells that are numbers, and the mark. Numbers are floats; a text that looks like one stays.
    """
    encoding = "utf-8-sig" if mark or excel else "utf-8"
    if excel:
        rows = ({column: _with_comma(value) for column, value in row.items()} for row in rows)
    with (
        whole_file(path) as name,
        Path(name).open("w", newline="", encoding=encoding, errors="surrogateescape") as stream,
    ):
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", delimiter=";" if excel else ",")
        writer.writeheader()
        writer.writerows(rows)


class Rounded(str):
    """A number as text, to a number of places that a float would not keep."""


def _with_comma(value: object) -> object:
    return str(value).replace(".", ",") if isinstance(value, float | Rounded) else value


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Strict JSON in ASCII: NaN and infinities are refused, since most readers do."""
    with whole_file(path) as name:
        Path(name).write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="ascii")


def finite_or_none(tree: Any) -> Any:
    """A tree for JSON, which has no number for what is not finite: None stands for it."""
    if isinstance(tree, dict):
        return {key: finite_or_none(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite_or_none(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
