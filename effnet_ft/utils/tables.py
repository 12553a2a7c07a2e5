"""Tables as text: columns for the terminal, Markdown for the documentation, CSV for files.

A spreadsheet would run a CSV cell that begins like a formula. Such cells are written with a leading apostrophe, which
spreadsheets read as "this is text", and read back without it.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets skip a tab or a carriage return before a formula


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Return ``rows`` as lines of aligned columns; those in ``right`` are right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_csv(file: SupportsWrite[str], rows: Iterable[Sequence[object]]) -> None:
    """Write ``rows`` as CSV; texts go through :func:`escape_formula`, numbers stay as they are."""
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [escape_formula(cell) if isinstance(cell, str) else cell for cell in row]
        # The plain writer quotes neither a carriage return, which readers take for the end of the line, nor a blank at
        # the beginning, which readers drop.
        special = any("\r" in cell or cell.startswith(" ") for cell in cells if isinstance(cell, str))
        (quoted if special else plain).writerow(cells)


def escape_formula(text: str) -> str:
    """Return ``text`` as a CSV cell that no spreadsheet runs as a formula; see :func:`unescape_formula`."""
    return f"'{text}" if _is_formula(text) else text


def unescape_formula(cell: str) -> str:
    """Return the text of a CSV cell that :func:`escape_formula` made; other cells are unchanged."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(text: str) -> bool:
    """Whether ``text`` is a formula after any number of apostrophes, so that escaping is reversible."""
    return text.lstrip("'").startswith(_FORMULA)
