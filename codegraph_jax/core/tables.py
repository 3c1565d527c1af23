"""Tables as plain text and pandas."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.installing import install_command
from codegraph_jax.core.names import printable


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a header; the first column is left-aligned, the others are right-aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in (headings, *rows)) for k in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "  ".join(padded).rstrip()

    return "\n".join([line(headings), line(["-" * width for width in widths]), *map(line, rows)])


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent without the sign; a dash for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def data_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A pandas DataFrame.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        command = install_command(["pandas"])
        raise UserError(f"to_frame needs the package pandas, which is not installed: {command}") from None
    return pandas.DataFrame(rows)
