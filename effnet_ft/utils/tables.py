"""Tables as text: columns for the terminal, Markdown for the documentation, CSV for files.

A cell of CSV that begins as a formula would be run by a spreadsheet that opens the file. It is written with an
apostrophe before it, which spreadsheets take for "this is text", and read back without.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a formula begins with; spreadsheets pass over a tab or a carriage return before it."""


class Writable(Protocol):
    """What text can be written to: an open file, or the standard output."""

    def write(self, text: str, /) -> object:
        """Write ``text``."""


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Return ``rows`` as lines whose cells stand under each other; those of the columns ``right`` end together."""
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


def write_csv(file: Writable, rows: Iterable[Sequence[object]]) -> None:
    """Write ``rows`` as CSV; texts that begin as a formula are :func:`guarded`, numbers stay as they are."""
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [guarded(cell) if isinstance(cell, str) else cell for cell in row]
        # The plain writer leaves a carriage return bare, and readers end the line there.
        broken = any("\r" in cell for cell in cells if isinstance(cell, str))
        (quoted if broken else plain).writerow(cells)


def guarded(text: str) -> str:
    """Return ``text`` as a cell that no spreadsheet takes for a formula; :func:`unguarded` gives it back."""
    return f"'{text}" if _formula_within(text) else text


def unguarded(cell: str) -> str:
    """Return the text that :func:`guarded` made ``cell`` of; other cells as they are."""
    return cell[1:] if cell.startswith("'") and _formula_within(cell) else cell


def _formula_within(text: str) -> bool:
    """Return whether ``text`` is a formula, behind any number of apostrophes."""
    return text.lstrip("'").startswith(_FORMULA)
