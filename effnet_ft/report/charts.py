"""Charts as data: the template draws them as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

Ticks = Sequence[tuple[float, str]]
"""Values of an axis with their labels."""

FRACTIONS = tuple((value / 5, f"{value / 5:.0%}") for value in range(6))
"""Ticks of a horizontal axis from 0 to 100%."""


class Spot(NamedTuple):
    """A marked point, in the axes' units, and the text shown where the pointer rests on it."""

    x: float
    y: float
    tip: str
    radius: float = 2.5


@dataclass(frozen=True)
class Series:
    """Points drawn in one style."""

    style: str  # its class in page.css
    label: str = ""  # in the legend; empty for none
    points: Sequence[tuple[float, float]] = ()  # joined by a line, in the axes' units
    spots: Sequence[Spot] = ()  # marked points


@dataclass(frozen=True)
class Chart:
    """A chart."""

    title: str  # above it
    x_title: str  # below it
    x_range: tuple[float, float]  # lowest and highest value of the horizontal axis
    y_range: tuple[float, float]  # of the vertical axis
    x_ticks: Ticks
    y_ticks: Ticks
    series: Sequence[Series]  # the last on top
    marks: Ticks = ()  # vertical lines behind it, from left to right, with their labels
    note: str = ""  # beside the legend
    about: str = ""  # what it shows, for screen readers

    @cached_property
    def placed_marks(self) -> list[tuple[float, str, int]]:
        """The marks with the line of each label, from 0, so that labels do not run into each other."""
        unit = (self.x_range[1] - self.x_range[0]) / 368  # the width that the template draws
        found: list[tuple[float, str, int]] = []
        ends: list[float] = []
        for value, label in self.marks:
            line = next((line for line, end in enumerate(ends) if end < value), len(ends))
            ends[line : line + 1] = [value + (7 * len(label) + 6) * unit]
            found.append((value, label, line))
        return found

    @property
    def label_lines(self) -> int:
        """How many lines the labels of the marks take."""
        return max((line + 1 for *_, line in self.placed_marks), default=0)


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
