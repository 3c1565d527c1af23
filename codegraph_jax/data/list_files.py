"""Reads lists of images (csv, json, text), with bounds and errors that name the line."""

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from codegraph_jax.core import files
from codegraph_jax.core.names import composed
from codegraph_jax.data.search import LayoutError


def read_csv(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, {column: value}) of each row of a csv file whose header names `columns`, in any order.

    Cells are separated by tabs if the header has one, otherwise by commas.

    Raises:
        LayoutError: the file cannot be read, or is not such a csv; the message names the line.
    """
    text = read_list(file)
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows = (row for row in reader if row)
    try:
        header = next(rows, [])
        # without `columns` all are read
        if twice := [column for column in columns or header if column.strip() and header.count(column) > 1]:
            raise LayoutError(f"{str(file)!r} line 1: several columns are called {twice[0]!r}")
        if missing := [column for column in columns if column not in header]:
            raise LayoutError(
                f"{str(file)!r} line 1: no column {', '.join(missing)}; it has {', '.join(header)[:200]!r}"
            )
        for row in rows:
            if len(row) != len(header):
                raise LayoutError(
                    f"{str(file)!r} line {reader.line_num}: {len(row)} values, but the header has {len(header)} columns"
                )
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise LayoutError(f"{str(file)!r} line {reader.line_num}: {error}") from None


def read_json(file: Path) -> Any:
    """The content of a json file.

    Raises:
        LayoutError: the file cannot be read, or is not json; the message names the line.
    """
    with _named_errors(file):
        return files.read_json(file)


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
    existing = base
    for part in relative.parts:
        existing /= _names_in(str(existing)).get(composed(part), part)
    return existing if existing.exists() else path


@lru_cache(maxsize=1024)
def _names_in(directory: str) -> dict[str, str]:
    """Names in a directory, by their composed form."""
    try:
        return {composed(name): name for name in os.listdir(directory)}  # noqa: PTH208
    except OSError:
        return {}


def read_list(file: Path) -> str:
    """The content of a text file.

    Raises:
        LayoutError: the file is missing, too large, or not UTF-8.
    """
    with _named_errors(file):
        return files.read_text(file)


@contextmanager
def _named_errors(file: Path) -> Iterator[None]:
    """Raises errors of reading a file as LayoutError, which names the file, and the line if it is known."""
    try:
        yield
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LayoutError(f"{str(file)!r} line {line}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise LayoutError(f"{str(file)!r} line {error.lineno}: {error.msg}") from None
    except ValueError as error:
        raise LayoutError(f"{str(file)!r}: {error}") from None
    except OSError as error:
        raise LayoutError(f"{str(file)!r}: {error.strerror or error}") from None
