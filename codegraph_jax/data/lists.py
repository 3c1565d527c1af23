"""Reads the list files (csv, json) of published data sets; errors name the file and the line."""

import csv
import io
import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from codegraph_jax.core.names import composed
from codegraph_jax.data.search import LayoutError

MAX_BYTES = 256 * 2**20
"""Far above the size of any published list."""


def read_csv(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, {column: value}) of each row of a csv file whose header names `columns`, in any order.

    Raises:
        LayoutError: the file cannot be read, or is not such a csv; the message names the line.
    """
    rows = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        header = next(rows, [])
        if missing := [column for column in columns if column not in header]:
            raise LayoutError(
                f"{str(file)!r} line 1: no column {', '.join(missing)}; it has {', '.join(header)[:200]!r}"
            )
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise LayoutError(
                    f"{str(file)!r} line {rows.line_num}: {len(row)} values for the {len(header)} columns of the header"
                )
            yield rows.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise LayoutError(f"{str(file)!r} line {rows.line_num}: {error}") from None


def read_json(file: Path) -> Any:
    """The content of a json file.

    Raises:
        LayoutError: the file cannot be read, or is not json; the message names the line.
    """
    text = _text(file)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise LayoutError(f"{str(file)!r} line {error.lineno}: {error.msg}") from None
    except (RecursionError, ValueError) as error:  # nested too deep; a number of thousands of digits
        raise LayoutError(f"{str(file)!r}: {error}") from None


def safe_join(base: Path, relative: str, where: str) -> Path:
    """`base` / `relative`, for a path that came from a file.

    Raises:
        LayoutError: the path is empty, absolute, or leads out of `base`; the message begins with `where`.
    """
    # lists that were written on Windows
    pure = PurePosixPath(relative.replace("\\", "/"))
    if not pure.parts or "\0" in relative or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        raise LayoutError(f"{where}: {relative[:200]!r} is not a path below {str(base)!r}")
    return _as_written(base, pure)


def _as_written(base: Path, relative: PurePosixPath) -> Path:
    """The path on disk, where names may have another Unicode form than in the list."""
    path = base / relative
    if str(relative).isascii() or path.exists():
        return path
    found = base
    for part in relative.parts:
        found /= _names_in(str(found)).get(composed(part), part)
    return found if found.exists() else path


@lru_cache(maxsize=1024)
def _names_in(directory: str) -> dict[str, str]:
    """Names in a directory, by their composed form."""
    try:
        return {composed(name): name for name in os.listdir(directory)}  # noqa: PTH208
    except OSError:
        return {}


def is_file(path: Path) -> bool:
    """Whether the file exists; False for names that are not valid on this system."""
    try:
        return path.is_file()
    except OSError:
        return False


def _text(file: Path) -> str:
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise LayoutError(f"{str(file)!r}: is too large for a list of images ({size} bytes)")
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LayoutError(f"{str(file)!r} line {line}: not UTF-8") from None
    except OSError as error:
        raise LayoutError(f"{str(file)!r}: {error.strerror or error}") from None
