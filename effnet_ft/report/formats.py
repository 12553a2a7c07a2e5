"""Numbers, percentages and durations as a page or a terminal shows them, and cells of sortable tables."""

from __future__ import annotations

import math
from typing import NamedTuple

DASH = "\N{EN DASH}"


class TableCell(NamedTuple):
    """A number in a table: its value to sort by, its text, and the filled share of a bar beside it, if it has one."""

    value: float
    text: str
    bar: float | None = None


def number(value: float, spec: str = ",.0f") -> str:
    """Return a number in a format, a dash where it is not finite."""
    return format(value, spec) if math.isfinite(value) else DASH


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction as a percentage."""
    return number(value, f".{digits}%")


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds; a dash where they are not known."""
    if not seconds >= 60:
        return number(seconds, ".1f") + (" s" if math.isfinite(seconds) else "")
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def number_cell(value: float) -> TableCell:
    """Return the cell of a number."""
    return TableCell(value, number(value))


def percent_cell(value: float, digits: int = 1) -> TableCell:
    """Return the cell of a fraction."""
    return TableCell(value, percent(value, digits))


def duration_cell(seconds: float) -> TableCell:
    """Return the cell of a duration."""
    return TableCell(seconds, duration(seconds))
