"""Tables whose columns the reader can sort by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TableCell:
    """A number in a table.

    Attributes:
        value: sorted by; NaN stands last.
        text: shown.
        bar: the filled share of a bar beside the text; None for no bar.
    """

    value: float
    text: str
    bar: float | None = None


@dataclass(frozen=True)
class SortableTable:
    """A table of numbers.

    Attributes:
        head: titles of the columns.
        rows: of each its name, the first column, and a cell for every further column.
    """

    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[TableCell]]]


def cells(values: Sequence[float], formats: Sequence[Callable[[float], str]]) -> list[TableCell]:
    """Return a row's cells from its values and how each is shown."""
    return [TableCell(value, show(value)) for value, show in zip(values, formats, strict=True)]
