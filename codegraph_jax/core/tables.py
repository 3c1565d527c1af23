"""Plain-text tables."""

from collections.abc import Sequence

from codegraph_jax.core.names import printable


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a header; the first column is left-aligned, the others are right-aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in (headings, *rows)) for k in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "  ".join(padded).rstrip()

    return "\n".join([line(headings), line(["-" * width for width in widths]), *map(line, rows)])
