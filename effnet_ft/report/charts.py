"""Charts as data: the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

Ticks = Sequence[tuple[float, str]]
"""Values of an axis with their labels."""

FRACTIONS = tuple((value / 5, f"{value / 5:.0%}") for value in range(6))
"""Ticks of a horizontal axis from 0 to 100%."""


class Spot(NamedTuple):
    """A marked point, in the axes' units, with what it says where the pointer rests on it."""

    x: float
    y: float
    tip: str
    radius: float = 2.5


@dataclass(frozen=True)
class Series:
    """What is drawn in one style."""

    style: str  # its class in page.css
    label: str = ""  # in the legend; empty for none
    points: Sequence[tuple[float, float]] = ()  # joined by a line, in the axes' units
    spots: Sequence[Spot] = ()  # marked points


@dataclass(frozen=True)
class Chart:
    """A chart; its geometry is in the drawing's units."""

    title: str  # above it
    x_title: str  # below it
    x_range: tuple[float, float]  # the lowest and the highest value across
    y_range: tuple[float, float]  # likewise upwards
    x_ticks: Ticks  # of the horizontal axis
    y_ticks: Ticks  # of the vertical axis
    series: Sequence[Series]  # what is drawn, the last on top
    marks: Ticks = ()  # vertical lines behind it, from left to right, with their labels
    note: str = ""  # beside the legend
    about: str = ""  # what it shows, for screen readers

    width: ClassVar = 420
    height: ClassVar = 266
    left: ClassVar = 44
    right: ClassVar = 412
    bottom: ClassVar = 232
    line_height: ClassVar = 15
    letter_width: ClassVar = 7

    @property
    def top(self) -> int:
        """Upper edge of the plotting area, below the labels of the marks."""
        return 8 + self.line_height * max((line + 1 for _, line, _ in self.placed_marks()), default=0)

    def x(self, value: float) -> float:
        """Return where ``value`` stands across."""
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Return where ``value`` stands, counted downwards."""
        low, high = self.y_range
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)

    def placed_marks(self) -> Iterator[tuple[float, int, str]]:
        """Yield the position, the line of text and the label of each mark; labels do not run into each other."""
        ends: list[float] = []
        for value, label in self.marks:
            x = self.x(value)
            line = next((line for line, end in enumerate(ends) if end < x), len(ends))
            ends[line : line + 1] = [x + self.letter_width * len(label) + 6]
            yield x, line, label


def round_ticks(low: float, high: float, show: Callable[[float], str]) -> Ticks:
    """Return the multiples of a round step from ``low`` to ``high`` with their labels."""
    step = tick_step(low, high)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, show(number * step)) for number in range(first, last + 1)]


def percent_ticks(low: float, high: float) -> Ticks:
    """Return round ticks labelled as percentages with the digits that their step needs."""
    step = 100 * tick_step(low, high)
    digits = next(digits for digits in range(12) if math.isclose(round(step, digits), step))
    return round_ticks(low, high, lambda value: f"{value:.{digits}%}")


def axis_start(fraction: float, step: float) -> float:
    """Return the multiple of ``step`` below a fraction, 0 at least, where an axis that ends at 1 can begin."""
    return max(0.0, math.floor((fraction - 1e-4) / step) * step)


def tick_step(low: float, high: float) -> float:
    """Return the round number that divides an axis into four parts or a few more."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    return max(power * factor for factor in (1, 2, 2.5, 5) if power * factor <= (high - low) / 4 * 1.001)
