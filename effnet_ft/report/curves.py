"""The learning curves of a run, and what the training took."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

import numpy as np

from effnet_ft.report.charts import BOTTOM, Axes, figure
from effnet_ft.report.contents import SPLITS, RunContents
from effnet_ft.report.html_formats import DASH, duration, show, table
from effnet_ft.report.reading import TIMES


def learning_curves(run: RunContents) -> str:
    """Loss and accuracy over the epochs."""
    if not run.phases:
        return "<p>No epoch was recorded.</p>"
    title, key = ("Mean average precision", "map") if run.multilabel else ("Accuracy", "acc1")
    return f'<div class="charts">{_chart(run, "Loss", "loss", ".3g")}{_chart(run, title, key, "%")}</div>'


def _chart(run: RunContents, title: str, key: str, kind: str) -> str:
    """One figure with the training and the validation curve of a column of metrics.csv."""
    rows = [row for _, epochs in run.phases for row in epochs]
    seen = [row[f"{split}/{key}"] for row in rows for split in ("train", "val")]
    seen = [value for value in seen if math.isfinite(value)] or [1.0]
    y = (math.floor(min(seen) * 4.999) / 5, 1.0) if key != "loss" else (0.0, max(seen) * 1.05 or 1.0)
    x = (rows[0]["epoch"] - 0.5, rows[-1]["epoch"] + 0.5)
    marks, lines = _phase_marks(run, Axes(x, y))
    axes = Axes(x, y, top=lines * 15 + 8)
    drawing = marks + axes.grid(kind)
    drawing += axes.labels((row["epoch"] for row in rows[:: math.ceil(len(rows) / 10)]), ".0f", "epoch")
    keys = []
    for split in ("train", "val"):
        points = [(row["epoch"], row[f"{split}/{key}"]) for row in rows if math.isfinite(row[f"{split}/{key}"])]
        tips = [f"epoch {epoch:.0f}, {SPLITS[split]}: {value:.4g}" for epoch, value in points]
        drawing += axes.line(points, split, tips)
        final = show(points[-1][1], ".1%" if key != "loss" else kind) if points else DASH
        keys.append((split, f"{SPLITS[split]} {final}"))
    return figure(title, drawing, keys, f"{title} over the epochs")


def _phase_marks(run: RunContents, axes: Axes) -> tuple[str, int]:
    """Return where the phases begin, and how many lines of text their labels take."""
    html = ""
    ends: list[float] = []
    for label, epochs in run.phases:
        x = axes.across(epochs[0]["epoch"] - 0.5)
        # A label that would run into the one before it goes to the next line.
        line = next((place for place, end in enumerate(ends) if end < x), len(ends))
        ends[line : line + 1] = [x + 7 * len(label) + 6]
        html += f'<path class="phase" d="M{x:.1f} {line * 15}V{BOTTOM}"/>'
        html += f'<text x="{x + 4:.1f}" y="{line * 15 + 11}">{escape(label)}</text>'
    return html, len(ends)


def times(run: RunContents) -> str:
    """Time, speed and waiting for data, of each phase and of the run."""
    rows = []
    for label, epochs in run.phases:
        spent = np.array([[row[key] for key in TIMES] for row in epochs])
        seconds = float(spent[:, 0].sum())
        speed, wait = (spent[:, 0] @ spent[:, 1:] / seconds).tolist() if seconds else (math.nan, math.nan)
        rows.append((f"{label}: training steps", [len(epochs), seconds, speed, wait]))
    overall = [run.metric(key) for key in ("train_seconds", *TIMES[1:])]
    rest = overall[0] - sum(row[1] for _, row in rows)
    if rest > 0:
        rows.append(("stored activations, validation, checkpoints", [math.nan, rest, math.nan, math.nan]))
    rows.append(("whole training", [sum(len(epochs) for _, epochs in run.phases), *overall]))
    shows: tuple[Callable[[float], str], ...] = (show, duration, show, lambda value: show(value, ".1%"))
    lines = [(label, [(v, show(v)) for v, show in zip(row, shows, strict=True)]) for label, row in rows]
    return table(("Phase", "Epochs", "Time", "Images/s", "Data wait"), lines)
