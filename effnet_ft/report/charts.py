"""Charts as data: the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

FRACTIONS = tuple((value / 5, f"{value / 5:.0%}") for value in range(6))
"""Ticks of an axis from 0 to 100%."""


@dataclass(frozen=True)
class Spot:
    """A marked point.

    Attributes:
        x: across, in the axis's units.
        y: upwards, likewise.
        tip: shown where the pointer rests on it.
        radius: in the drawing's units.
        filled: drawn as a disc, not as a ring.
    """

    x: float
    y: float
    tip: str
    radius: float = 2.5
    filled: bool = False


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        style: its class in page.css.
        label: in the legend; empty for none.
        points: joined by a line, in the axes' units; none where spots stand alone.
        spots: marked points.
    """

    style: str
    label: str = ""
    points: Sequence[tuple[float, float]] = ()
    spots: Sequence[Spot] = ()


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line; ``line`` counts the lines of text above the plotting area from 0."""

    x: float
    label: str
    line: int


@dataclass(frozen=True)
class Chart:
    """A chart of ``width`` by ``height`` units, whose plotting area lies between ``left`` and ``right``.

    Attributes:
        title: above it.
        x_title: below it.
        x_range: the lowest and the highest value across.
        y_range: likewise upwards.
        x_ticks: values and labels of the horizontal axis.
        y_ticks: of the vertical one.
        series: what is drawn, the last on top.
        marks: vertical lines behind it.
        note: beside the legend.
        about: what it shows, for screen readers; the title where it is empty.
    """

    title: str
    x_title: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    series: Sequence[Series]
    marks: Sequence[Mark] = field(default=())
    note: str = ""
    about: str = ""

    width: ClassVar[int] = 420
    height: ClassVar[int] = 266
    left: ClassVar[int] = 44
    right: ClassVar[int] = 412
    bottom: ClassVar[int] = 232

    @property
    def top(self) -> int:
        """Upper edge of the plotting area."""
        return 8 + 15 * (1 + max((mark.line for mark in self.marks), default=-1))

    def x(self, value: float) -> float:
        """Return where ``value`` stands across the drawing."""
        return across(value, self.x_range)

    def y(self, value: float) -> float:
        """Return where ``value`` stands, counted downwards."""
        low, high = self.y_range
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)


def across(value: float, x_range: tuple[float, float]) -> float:
    """Return where ``value`` stands across a chart."""
    low, high = x_range
    return round(Chart.left + (value - low) / (high - low) * (Chart.right - Chart.left), 1)


def round_ticks(low: float, high: float, show: Callable[[float], str]) -> list[tuple[float, str]]:
    """Return the multiples of a round step from ``low`` to ``high`` with their labels."""
    step = tick_step(low, high)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, show(number * step)) for number in range(first, last + 1)]


def percent_ticks(low: float, high: float) -> list[tuple[float, str]]:
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
