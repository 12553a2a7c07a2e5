"""The page of a sweep: the metric against every key, and the settings as a table."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from effnet_ft.report.charts import Chart, Series, Spot, Ticks, percent_ticks, round_ticks
from effnet_ft.report.formats import TableCell, cell, duration, percent
from effnet_ft.report.rendering import Section, write_page
from effnet_ft.sweep.definition import Sweep
from effnet_ft.sweep.results import DIVERGED, Result, SeedMean, over_seeds
from effnet_ft.utils.text import counted

_MOST_TICKS = 8
_MOST_LETTERS = 48
"""Of all labels under a chart together, before they are shortened."""

_LOG_FROM = 8.0
"""The largest value over the smallest one from which an axis is logarithmic."""


def write_sweep_page(sweep: Sweep, results: Sequence[Result], final: bool = False) -> Path:
    """Write the page of a sweep, whose results come the best first, and return its path; say what a final run lacks."""
    means = over_seeds(results)
    metric = f"mean {sweep.metric}" if means else sweep.metric
    order = "" if len(means) == 1 else f", the best by {metric}{' over seeds' if means else ''} first"
    subtitle = f"{counted(len(results), 'setting')} of {sweep.recipe}{order}"
    finished = [result for result in means or results if math.isfinite(result.value)]
    keys = list(finished[0].setting) if finished else []
    charts = [_key_chart(key, metric, finished, key in sweep.linear) for key in keys]
    sections = [
        Section("Keys", "keys", {"charts": charts} if charts or not finished else None),
        Section("Seeds", "table", _seeds(means, metric) if means else None),
        Section("Settings", "table", _settings(results, sweep.metric)),
        Section("Final run", "final", {"multilabel": sweep.metric == "val/map"} if final else None),
    ]
    return write_page(sweep.page, "sweep.html", sweep.folder.resolve().name, subtitle, sections)


def _seeds(means: Sequence[SeedMean], metric: str) -> dict[str, Any]:
    rows = []
    for mean in means:
        name = ", ".join(f"{key}={text}" for key, text in mean.setting.items()) or "all"
        numbers = [TableCell(number, percent(number, 2)) for number in (mean.value, mean.spread)]
        rows.append((name, [*numbers, TableCell(mean.finished, f"{mean.finished} of {len(mean.numbers)}")]))
    return {"head": ["setting", metric, "standard deviation", "seeds finished"], "rows": rows}


def _settings(results: Sequence[Result], metric: str) -> dict[str, Any]:
    keys = list(results[0].setting)
    places = {key: positions([result.setting[key] for result in results])[0] for key in keys}
    rows = []
    for result in results:
        row = [TableCell(places[key][text], text) for key, text in result.setting.items()]
        row += [TableCell(result.value, percent(result.value, 2)), cell(result.seconds, duration)]
        rows.append((result.name, [*row, TableCell(float(result.state == DIVERGED), result.state)]))
    return {"head": ["setting", *keys, metric, "trained in", "state"], "rows": rows}


def _key_chart(key: str, metric: str, results: Sequence[Result], linear: bool) -> Chart:
    """Return a chart of the metric against a key: a spot a finished setting; the best, ``results[0]``, is filled."""
    best = results[0]
    places, ticks = positions([result.setting[key] for result in results], linear)
    values = [result.value for result in results]
    margin = 0.08 * (max(values) - min(values)) or 0.01
    y_range = min(values) - margin, max(values) + margin
    longest = max(3, _MOST_LETTERS // len(ticks))
    spots = []
    for result in results:
        chosen = ", ".join(f"{name}={text}" for name, text in result.setting.items())
        tip = f"{result.name}: {chosen}: {result.value:.2%}"
        spots.append(Spot(places[result.setting[key]], result.value, tip, radius=4))
    return Chart(
        f"{metric} against {key}",
        key,
        (-0.075, 1.075),
        y_range,
        [(place, text if len(text) <= longest else f"{text[: longest - 1]}…") for place, text in ticks],
        percent_ticks(*y_range),
        [Series("val", spots=spots[:0:-1]), Series("val best", spots=spots[:1])],
        note=f"best {best.setting[key]}: {best.value:.2%}",
    )


def positions(texts: Sequence[str], linear: bool = False) -> tuple[dict[str, float], Ticks]:
    """Return the positions of a key's values on its axis, 0 to 1, and the axis's ticks.

    Numbers are placed by value, or by logarithm if they span a factor of eight or more, unless ``linear``. Words, and
    numbers with such a span and a zero, are evenly spaced.
    """
    known = list(dict.fromkeys(texts))
    numbers = {text: _number(text) for text in known}
    scale = None
    if all(math.isfinite(value) for value in numbers.values()):
        known.sort(key=lambda text: numbers[text])
        scale = float if linear else _scale([numbers[text] for text in known])
    if scale is None or len(known) == 1:
        places = {text: (index + 0.5) / len(known) for index, text in enumerate(known)}
        return places, [(places[text], text) for text in known[:: math.ceil(len(known) / _MOST_TICKS)]]
    low, high = numbers[known[0]], numbers[known[-1]]

    def place(value: float) -> float:
        return (scale(value) - scale(low)) / (scale(high) - scale(low))

    places = {text: place(number) for text, number in numbers.items()}
    if len(known) > _MOST_TICKS:
        return places, [(place(value), f"{value:g}") for value in _round_values(low, high, scale)]
    shown = known[:1]
    for text in known[1:]:  # labels that would run into the one before are left out
        if places[text] - places[shown[-1]] > 0.02 * (len(text) + len(shown[-1])) / 2:
            shown.append(text)
    return places, [(places[text], text) for text in shown]


def _scale(ordered: Sequence[float]) -> Callable[[float], float] | None:
    """Return what turns numbers into positions: their logarithm or identity; None for equal spacing."""
    magnitudes = [abs(value) for value in ordered if value != 0]
    if not magnitudes or max(magnitudes) / min(magnitudes) < _LOG_FROM:
        return float
    return math.log10 if ordered[0] > 0 else None


def _round_values(low: float, high: float, scale: Callable[[float], float]) -> list[float]:
    """Return round numbers from ``low`` to ``high`` for an axis: powers of ten, or equal steps."""
    if scale is not math.log10:
        return [value for value, _ in round_ticks(low, high, str)]
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    return [10.0**power for power in powers] if len(powers) > 1 else [low, high]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
