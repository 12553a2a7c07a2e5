"""Line charts of a report, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 420, 266
LEFT, RIGHT, BOTTOM = 44, 412, 232
"""The plotting area of a chart, in a drawing of ``WIDTH`` by ``HEIGHT`` units."""


@dataclass(frozen=True)
class Axes:
    """Where numbers stand in a chart.

    Attributes:
        x: the lowest and the highest number across.
        y: likewise upwards.
        top: upper edge of the plotting area.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    top: float = 8

    def across(self, value: float) -> float:
        """Return how far to the right ``value`` stands."""
        return LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (RIGHT - LEFT)

    def down(self, value: float) -> float:
        """Return how far down ``value`` stands."""
        return BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (BOTTOM - self.top)

    def grid(self, kind: str) -> str:
        """Return horizontal lines at round numbers, written in a format; ``%`` takes the digits that it needs."""
        html = ""
        step = tick_step(*self.y)
        if kind == "%":
            kind = ".0%" if math.isclose(100 * step, round(100 * step)) else ".1%"
        for tick in np.arange(self.y[0], self.y[1] + step / 100, step):
            html += f'<path class="grid" d="M{LEFT} {self.down(tick):.1f}H{RIGHT}"/>'
            html += f'<text x="{LEFT - 6}" y="{self.down(tick) + 4:.1f}" text-anchor="end">{tick:{kind}}</text>'
        return html

    def labels(self, ticks: Iterable[float], kind: str, title: str) -> str:
        """Return the numbers below the chart, in a format, and what they are."""
        html = ""
        for tick in ticks:
            html += f'<text x="{self.across(tick):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{tick:{kind}}</text>'
        middle = (LEFT + RIGHT) / 2
        return html + f'<text x="{middle}" y="{BOTTOM + 32}" text-anchor="middle">{escape(title)}</text>'

    def line(
        self, points: Sequence[tuple[float, float]], kind: str, tips: Sequence[str] = (), sizes: Sequence[float] = ()
    ) -> str:
        """Return a line through ``points`` and, where there are ``tips``, a spot at each that tells its own."""
        spots = " ".join(f"{self.across(x):.1f},{self.down(y):.1f}" for x, y in points)
        html = f'<polyline class="{kind}" points="{spots}"/>'
        for (x, y), tip, size in zip(points if tips else (), tips, sizes or [2.5] * len(tips), strict=True):
            place = f'cx="{self.across(x):.1f}" cy="{self.down(y):.1f}" r="{size:.1f}"'
            html += f'<circle class="{kind}" {place}><title>{escape(tip)}</title></circle>'
        return html


def figure(title: str, drawing: str, keys: Iterable[tuple[str, str]] = (), about: str = "") -> str:
    """A chart with its title and, for each of ``keys``, the line's kind and what it shows."""
    legend = f"<b>{escape(title)}</b>"
    legend += "".join(f'<span class="key {kind}">{escape(text)}</span>' for kind, text in keys)
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(about or title)}">{drawing}</svg>'
    return f"<figure><figcaption>{legend}</figcaption>{svg}</figure>"


def tick_step(low: float, high: float) -> float:
    """Return the round number that divides an axis into four parts or a few more."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    return max(power * factor for factor in (1, 2, 2.5, 5) if power * factor <= (high - low) / 4 * 1.001)
