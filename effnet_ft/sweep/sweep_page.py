"""The page of a sweep: the metric against every key, and the settings as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from html import escape

from effnet_ft.report.charts import BOTTOM, LEFT, RIGHT, tick_step
from effnet_ft.report.html_formats import duration, show, table
from effnet_ft.sweep.results import Result

_TOP = 8
_INSET = 24  # Room between the plotting area's edges and the outermost points.
_MOST_TICKS = 8
_MOST_LETTERS = 48  # of all labels under a chart together, before they are shortened
_LOG_FROM = 8.0  # The largest value over the smallest one, from which equal ratios get equal room.


def sweep_sections(rows: Sequence[Result], metric: str, linear: Collection[str] = ()) -> dict[str, str]:
    """Return the sections of a sweep's page by their titles.

    Args:
        rows: the results, the best first.
        metric: its name, ``val/acc1`` for example.
        linear: keys that were drawn by equal differences, and stand on their axes so.
    """
    keys = list(rows[0].setting)
    done = [row for row in rows if math.isfinite(row.value)]
    charts = "".join(scatter(key, metric, done, key in linear) for key in keys) if done else ""
    places = {key: positions([row.setting[key] for row in rows])[0] for key in keys}
    body = [
        (
            row.name,
            [
                *((places[key][row.setting[key]], escape(row.setting[key])) for key in keys),
                (row.value, show(row.value, ".2%")),
                (row.seconds, duration(row.seconds)),
                (float(row.state == "diverged"), row.state),
            ],
        )
        for row in rows
    ]
    settings = table(["setting", *keys, metric, "trained in", "state"], body)
    return {
        "Keys": f'<div class="charts">{charts}</div>' if charts else "<p>None has finished.</p>",
        "Settings": settings,
    }


def scatter(key: str, metric: str, rows: Sequence[Result], linear: bool = False) -> str:
    """One figure of the metric against a key: a spot a finished setting, ``rows[0]``, the best, filled."""
    places, ticks = positions([row.setting[key] for row in rows], linear)
    values = [row.value for row in rows]
    margin = 0.08 * (max(values) - min(values)) or 0.01
    low, high = min(values) - margin, max(values) + margin

    def across(place: float) -> float:
        return LEFT + _INSET + place * (RIGHT - LEFT - 2 * _INSET)

    def down(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - _TOP)

    html = ""
    step = tick_step(low, high)
    kind = ".0%" if step >= 0.01 else ".1%" if step >= 0.001 else ".2%"
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        y = down(number * step)
        html += f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
        html += f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number * step:{kind}}</text>'
    longest = max(3, _MOST_LETTERS // len(ticks))
    for label, place in ticks:
        short = label if len(label) <= longest else f"{label[: longest - 1]}…"
        html += f'<text x="{across(place):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{escape(short)}</text>'
    html += f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 30}" text-anchor="middle">{escape(key)}</text>'
    for row in reversed(rows):  # the best lies on top
        chosen = ", ".join(f"{name}={text}" for name, text in row.setting.items())
        tip = f"<title>{row.name}: {escape(chosen)}: {row.value:.2%}</title>"
        spot = f'cx="{across(places[row.setting[key]]):.1f}" cy="{down(row.value):.1f}"'
        fill = ' style="fill:var(--val)"' if row is rows[0] else ""
        html += f'<circle class="val" {spot} r="4"{fill}>{tip}</circle>'
    title = f"{escape(metric)} against {escape(key)}"
    legend = f"<b>{title}</b><span>best {escape(rows[0].setting[key])}: {rows[0].value:.2%}</span>"
    drawing = f'<svg viewBox="0 0 420 266" role="img" aria-label="{title}">{html}</svg>'
    return f"<figure><figcaption>{legend}</figcaption>{drawing}</figure>"


def positions(texts: Sequence[str], linear: bool = False) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Return where the values of a key stand on its axis, 0 to 1, and the axis's labels with their places.

    Numbers stand by their value; by its logarithm where they span a factor of eight or more, unless they are to be
    ``linear``. Words, and numbers that span so much and include a zero, stand evenly spaced.
    """
    known = list(dict.fromkeys(texts))
    numbers = {text: _number(text) for text in known}
    if all(math.isfinite(value) for value in numbers.values()):
        known.sort(key=lambda text: numbers[text])
        scale = float if linear else _scale([numbers[text] for text in known])
    else:
        scale = None
    if scale is None or len(known) == 1:
        places = {text: (index + 0.5) / len(known) for index, text in enumerate(known)}
        every = math.ceil(len(known) / _MOST_TICKS)
        return places, [(text, places[text]) for text in known[::every]]
    first, last = scale(numbers[known[0]]), scale(numbers[known[-1]])
    places = {text: (scale(numbers[text]) - first) / (last - first) for text in known}
    if len(known) <= _MOST_TICKS:
        return places, [(text, places[text]) for text in _apart(known, places)]
    ends = numbers[known[0]], numbers[known[-1]]
    return places, [(f"{value:g}", (scale(value) - first) / (last - first)) for value in _round_values(*ends, scale)]


def _scale(ordered: Sequence[float]) -> Callable[[float], float] | None:
    """Return what makes places of numbers: their logarithm, themselves, or None where neither shows them apart."""
    magnitudes = [abs(value) for value in ordered if value != 0]
    wide = bool(magnitudes) and max(magnitudes) / min(magnitudes) >= _LOG_FROM
    if not wide:
        return float
    return math.log10 if ordered[0] > 0 else None


def _apart(known: Sequence[str], places: dict[str, float]) -> list[str]:
    """Return the values whose labels do not run into the one before."""
    shown: list[str] = []
    for text in known:
        if not shown or places[text] - places[shown[-1]] > 0.02 * (len(text) + len(shown[-1])) / 2:
            shown.append(text)
    return shown


def _round_values(low: float, high: float, scale: Callable[[float], float]) -> list[float]:
    """Return round numbers from ``low`` to ``high`` for an axis: powers of ten, or equal steps."""
    if scale is math.log10:
        powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        return [10.0**power for power in powers] if len(powers) > 1 else [low, high]
    step = tick_step(low, high)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
