"""The learning curves of a report, drawn as SVG."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from effnet_ft.results.report.contents import SPLITS, Contents
from effnet_ft.results.report.formats import DASH, show

LEFT, RIGHT, BOTTOM = 44, 412, 232  # The plotting area of a chart, in a drawing of 420 by 266 units.


def tick_step(low: float, high: float) -> float:
    """Return the round number that divides an axis into four parts or a few more."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    return max(power * factor for factor in (1, 2, 2.5, 5) if power * factor <= (high - low) / 4 * 1.001)


def chart(run: Contents, title: str, key: str, kind: str) -> str:
    """One figure with the training and the validation curve of a column of metrics.csv."""
    rows = [row for _, epochs in run.phases for row in epochs]
    first, last = rows[0]["epoch"] - 0.5, rows[-1]["epoch"] + 0.5
    seen = [row[f"{split}/{key}"] for row in rows for split in ("train", "val")]
    seen = [value for value in seen if math.isfinite(value)] or [1.0]
    low, high = (math.floor(min(seen) * 4.999) / 5, 1.0) if key != "loss" else (0.0, max(seen) * 1.05 or 1.0)

    def across(epoch: float) -> float:
        return LEFT + (epoch - first) / (last - first) * (RIGHT - LEFT)

    html = ""
    ends: list[float] = []
    for label, epochs in run.phases:
        x = across(epochs[0]["epoch"] - 0.5)
        # A label that would run into the one before it goes to the next line.
        line = next((place for place, end in enumerate(ends) if end < x), len(ends))
        ends[line : line + 1] = [x + 7 * len(label) + 6]
        html += f'<path class="phase" d="M{x:.1f} {line * 15}V{BOTTOM}"/>'
        html += f'<text x="{x + 4:.1f}" y="{line * 15 + 11}">{escape(label)}</text>'
    top = len(ends) * 15 + 8

    def down(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - top)

    step = tick_step(low, high)
    for tick in np.arange(low, high + step / 100, step):
        html += f'<path class="grid" d="M{LEFT} {down(tick):.1f}H{RIGHT}"/>'
        html += f'<text x="{LEFT - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick:{kind}}</text>'
    for row in rows[:: math.ceil(len(rows) / 10)]:
        html += f'<text x="{across(row["epoch"]):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{row["epoch"]:.0f}</text>'
    html += f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 32}" text-anchor="middle">epoch</text>'
    legend = f"<b>{title}</b>"
    for split in ("train", "val"):
        points = [(row["epoch"], row[f"{split}/{key}"]) for row in rows if math.isfinite(row[f"{split}/{key}"])]
        spots = " ".join(f"{across(epoch):.1f},{down(value):.1f}" for epoch, value in points)
        html += f'<polyline class="{split}" points="{spots}"/>'
        for epoch, value in points:
            tip = f"<title>epoch {epoch:.0f}, {SPLITS[split]}: {value:.4g}</title>"
            html += f'<circle class="{split}" cx="{across(epoch):.1f}" cy="{down(value):.1f}" r="2.5">{tip}</circle>'
        final = show(points[-1][1], ".1%" if key != "loss" else kind) if points else DASH
        legend += f'<span class="key {split}">{SPLITS[split]} {final}</span>'
    drawing = f'<svg viewBox="0 0 420 266" role="img" aria-label="{title} over the epochs">{html}</svg>'
    return f"<figure><figcaption>{legend}</figcaption>{drawing}</figure>"
