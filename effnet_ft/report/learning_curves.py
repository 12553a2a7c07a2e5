"""The learning curves of a run, and how long its phases took."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from effnet_ft.report.charts import Chart, Mark, Series, Spot, across, axis_start, percent_ticks, round_ticks
from effnet_ft.report.contents import SPLITS, RunContents
from effnet_ft.report.formats import DASH, duration, number, percent
from effnet_ft.report.reading import TIMES
from effnet_ft.report.sortable_table import SortableTable, cells

LETTER = 7
"""Width of a letter in a chart, in its units."""


def learning_curves(run: RunContents) -> list[Chart]:
    """Return loss and accuracy over the epochs; nothing where no epoch was trained."""
    if not run.epochs:
        return []
    title, key = ("Mean average precision", "map") if run.multilabel else ("Accuracy", "acc1")
    return [_curves(run, "Loss", "loss"), _curves(run, title, key)]


def _curves(run: RunContents, title: str, column: str) -> Chart:
    """Return the training and the validation curve of a column of metrics.csv."""
    epochs = [row["epoch"] for row in run.epochs]
    x_range = epochs[0] - 0.5, epochs[-1] + 0.5
    series = []
    for split in ("train", "val"):
        points = run.curve(f"{split}/{column}")
        final = DASH if not points else f"{points[-1][1]:.3g}" if column == "loss" else percent(points[-1][1])
        spots = [Spot(x, y, f"epoch {x:.0f}, {SPLITS[split]}: {y:.4g}") for x, y in points]
        series.append(Series(split, f"{SPLITS[split]} {final}", points, spots))
    y_range, y_ticks = curve_axis(series, column, 0.2)
    shown = epochs[:: math.ceil(len(epochs) / 10)]
    return Chart(
        title,
        "epoch",
        x_range,
        y_range,
        [(epoch, f"{epoch:.0f}") for epoch in shown],
        y_ticks,
        series,
        _phase_marks(run, x_range),
        about=f"{title} over the epochs",
    )


def curve_axis(
    series: Sequence[Series], column: str, step: float
) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """Return the range and the ticks of curves' vertical axis.

    Args:
        series: the curves.
        column: what they show; ``loss`` begins at 0, everything else is a fraction that ends at 1.
        step: what the lower end of a fraction is a multiple of.
    """
    values = [y for each in series for _, y in each.points] or [1.0]
    if column == "loss":
        high = max(values) * 1.05 or 1.0
        return (0.0, high), round_ticks(0.0, high, lambda value: f"{value:.3g}")
    low = axis_start(min(values), step)
    return (low, 1.0), percent_ticks(low, 1.0)


def _phase_marks(run: RunContents, x_range: tuple[float, float]) -> list[Mark]:
    """Return where the phases begin; a label that would run into the one before it goes to the next line."""
    marks: list[Mark] = []
    ends: list[float] = []
    for label, epochs in run.phases:
        start = epochs[0]["epoch"] - 0.5
        x = across(start, x_range)
        line = next((line for line, end in enumerate(ends) if end < x), len(ends))
        ends[line : line + 1] = [x + LETTER * len(label) + 6]
        marks.append(Mark(start, label, line))
    return marks


def times(run: RunContents) -> SortableTable:
    """Return time, speed and data wait of each phase and of the run."""
    rows = []
    for label, epochs in run.phases:
        spent = np.array([[row[key] for key in TIMES] for row in epochs])
        seconds = float(spent[:, 0].sum())
        speed, wait = (spent[:, 0] @ spent[:, 1:] / seconds).tolist() if seconds else (math.nan, math.nan)
        rows.append((f"{label}: training steps", [len(epochs), seconds, speed, wait]))
    whole = [run.metric(key) for key in ("train_seconds", *TIMES[1:])]
    rest = whole[0] - sum(row[1] for _, row in rows)
    if rest > 0:
        rows.append(("stored activations, validation, checkpoints", [math.nan, rest, math.nan, math.nan]))
    rows.append(("whole training", [len(run.epochs), *whole]))
    formats = (number, duration, number, percent)
    return SortableTable(
        ("Phase", "Epochs", "Time", "Images/s", "Data wait"), [(label, cells(row, formats)) for label, row in rows]
    )
