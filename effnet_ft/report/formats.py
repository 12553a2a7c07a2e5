"""Numbers, percentages and durations as a page or a terminal shows them, and sortable tables of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

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


def cell(value: float, show: Callable[[float], str] = number, bar: float | None = None) -> TableCell:
    """Return the cell of a number, formatted by ``show``."""
    return TableCell(value, show(value), bar)


def count_table(head: Sequence[str], counts: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return a table of numbers with bars: the titles of its columns, and a row for each name in ``counts``."""
    most = max(chain.from_iterable(counts.values()), default=1) or 1
    return {"head": head, "rows": [(name, [cell(n, bar=n / most) for n in row]) for name, row in counts.items()]}
