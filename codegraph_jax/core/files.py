"""Atomic writes of text, CSV and JSON; equal content gives equal bytes."""

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial-"
"""Prefix of the names of temporary files."""
MAX_TEXT_BYTES = 256 * 2**20
"""Far above the size of any file of a run, and of any published list of images."""
PIECE_CHARACTERS = 2**16
"""Characters of a CSV table that are written at once."""


def user_cache() -> Path:
    """This program's directory in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "codegraph-jax"


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yields the name of a temporary file, which replaces `path` when the block ends without an error.

    Missing directories are created. The temporary file keeps the suffix, since some writers choose the format by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL, suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield name
        # mkstemp creates a private file; results get the same permissions as with open()
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 text file; surrogates, as in file names that are not UTF-8, are written as escapes."""
    with whole_file(path) as name:
        Path(name).write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_csv(
    path: str | os.PathLike[str],
    rows: Iterable[Mapping[str, object]],
    columns: Sequence[str],
    form: str = "plain",
) -> None:
    """Writes `csv_pieces` to a file; file names that are not UTF-8 keep their bytes."""
    with (
        whole_file(path) as name,
        Path(name).open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        stream.writelines(csv_pieces(rows, columns, form))


def csv_pieces(rows: Iterable[Mapping[str, object]], columns: Sequence[str], form: str = "plain") -> Iterator[str]:
    """A CSV table with a header, in pieces of about `PIECE_CHARACTERS` characters; None is an empty cell.

    `form` is one of `CSV_FORMS`.
    """
    stream = io.StringIO()
    stream.write("" if form == "plain" else "\ufeff")
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", delimiter=";" if form == "excel" else ",")
    writer.writeheader()
    for row in rows:
        writer.writerow(_with_commas(row) if form == "excel" else row)
        if stream.tell() > PIECE_CHARACTERS:
            yield stream.getvalue()
            stream.seek(0)
            stream.truncate()
    yield stream.getvalue()


class Rounded(str):
    """A number as text with a fixed number of decimals."""


CSV_FORMS = ("plain", "excel", "excel_english")
"""`plain` and `excel_english` have commas between cells, and decimal points. `excel` has semicolons and decimal commas,
for Excel in countries that use them. Both forms for Excel begin with a byte order mark, from which Excel detects
UTF-8."""


def _with_commas(row: Mapping[str, object]) -> dict[str, object]:
    """The cells with decimal commas in floats and `Rounded` texts; other texts are unchanged."""
    return {
        column: str(value).replace(".", ",") if isinstance(value, float | Rounded) else value
        for column, value in row.items()
    }


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes strict JSON in ASCII; NaN and infinities raise a ValueError, since most readers reject them."""
    with whole_file(path) as name:
        Path(name).write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="ascii")


def read_text(path: str | os.PathLike[str]) -> str:
    """The content of a UTF-8 file, without a byte order mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is larger than `MAX_TEXT_BYTES`, or not UTF-8.
    """
    if (size := Path(path).stat().st_size) > MAX_TEXT_BYTES:
        raise ValueError(f"it is too large, {size} bytes")
    return Path(path).read_text(encoding="utf-8-sig")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is larger than `MAX_TEXT_BYTES`, is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def finite_or_none(tree: Any) -> Any:
    """The tree with None instead of NaN and infinities, which JSON does not support."""
    if isinstance(tree, dict):
        return {key: finite_or_none(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite_or_none(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
