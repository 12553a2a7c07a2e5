"""Learning curves, and how long the phases took."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from effnet_ft.report.charts import Chart, Series, Spot, Ticks, axis_start, percent_ticks, round_ticks
from effnet_ft.report.contents import SPLITS, TIMES, RunContents
from effnet_ft.report.formats import DASH, cell, duration, number, percent

Curve = tuple[str, str, str, Sequence[tuple[float, float]]]
"""A style, a label, what to call it, and its epochs and values."""


def learning_curves(run: RunContents) -> dict[str, Any]:
    """Return loss and accuracy over the epochs; no charts where no epoch was trained."""
    score, title = run.score
    marks = [(epochs[0]["epoch"] - 0.5, label) for label, epochs in run.phases]
    charts = [_run_chart(run, *each, marks) for each in (("Loss", "loss"), (title.capitalize(), score)) if marks]
    return {"charts": charts}


def _run_chart(run: RunContents, title: str, column: str, marks: Ticks) -> Chart:
    curves: list[Curve] = []
    for split in ("train", "val"):
        points = run.curve(f"{split}/{column}")
        final = DASH if not points else f"{points[-1][1]:.3g}" if column == "loss" else percent(points[-1][1])
        curves.append((split, f"{SPLITS[split]} {final}", SPLITS[split], points))
    return curve_chart(title, column, curves, [row["epoch"] for row in run.epochs], 0.2, marks)


def curve_chart(
    title: str, column: str, curves: Sequence[Curve], epochs: Sequence[float], step: float, marks: Ticks = ()
) -> Chart:
    """Return a chart of a column of metrics.csv over the epochs; ``marks`` are the beginnings of phases.

    ``loss`` has an axis from 0. Everything else is a fraction, on an axis from a multiple of ``step`` to 1.
    """
    values = [value for *_, points in curves for _, value in points] or [1.0]
    if column == "loss":
        y_range = (0.0, max(values) * 1.05 or 1.0)
        y_ticks = round_ticks(*y_range, lambda value: f"{value:.3g}")
    else:
        y_range = (axis_start(min(values), step), 1.0)
        y_ticks = percent_ticks(*y_range)
    x_ticks = [(epoch, f"{epoch:.0f}") for epoch in epochs[:: math.ceil(len(epochs) / 10)]]
    series = [
        Series(style, label, points, [Spot(x, y, f"{name}, epoch {x:.0f}: {y:.4g}") for x, y in points])
        for style, label, name, points in curves
    ]
    return Chart(title, "epoch", (epochs[0] - 0.5, epochs[-1] + 0.5), y_range, x_ticks, y_ticks, series, marks)


def times(run: RunContents) -> dict[str, Any]:
    """Return time, speed and data wait of each phase and of the run."""
    rows: list[tuple[str, tuple[float, ...]]] = []
    for label, epochs in run.phases:
        spent = np.array([[row[key] for key in TIMES] for row in epochs])
        seconds = float(spent[:, 0].sum())
        speed, wait = (spent[:, 0] @ spent[:, 1:] / seconds).tolist() if seconds else (math.nan, math.nan)
        rows.append((f"{label}: training steps", (len(epochs), seconds, speed, wait)))
    seconds, speed, wait = (run.metric(key) for key in ("train_seconds", *TIMES[1:]))
    rest = seconds - sum(row[1] for _, row in rows)
    if rest > 0:
        rows.append(("stored activations, validation, checkpoints", (math.nan, rest, math.nan, math.nan)))
    rows.append(("whole training", (len(run.epochs), seconds, speed, wait)))
    shows: tuple[Callable[[float], str], ...] = (number, duration, number, percent)
    cells = [(label, [cell(*each) for each in zip(row, shows, strict=True)]) for label, row in rows]
    return {"head": ("Phase", "Epochs", "Time", "Images/s", "Data wait"), "rows": cells}
