"""The headline numbers of a run with their confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from effnet_ft.evaluation.proportions import wilson_interval
from effnet_ft.report.contents import RunContents
from effnet_ft.report.formats import duration, number, percent


@dataclass(frozen=True)
class Card:
    """A headline number: its name, its value, and lines of small print."""

    name: str
    value: str
    notes: tuple[str, ...]


def headline(run: RunContents) -> list[Card]:
    """Return the headline numbers; what is not known is left out of their small print."""
    split = run.split_name.capitalize()
    of_images = f"{run.split_name}, of {run.image_count:,} in total"
    cards = [
        Card("Images", number(len(run.predictions)), (of_images,)),
        Card(
            "Training time",
            duration(run.metric("train_seconds")),
            (f"{number(run.metric('images_per_second'))} images/s",),
        ),
    ]
    if run.multilabel:
        return [
            _card(run, f"{split} mean average precision", "map", otherwise="mean over the labels that occur"),
            Card("Macro F1", percent(run.metric("macro_f1")), ("at thresholds chosen on the validation images",)),
            *cards,
        ]
    top5, uncalibrated = run.metric("acc5"), run.metric("ece_uncalibrated")
    return [
        _card(run, f"{split} accuracy", "acc1", f"top five: {percent(top5)}" * math.isfinite(top5)),
        _card(run, "Macro F1", "macro_f1", otherwise="mean over the classes"),
        _card(
            run,
            "Calibration error",
            "ece",
            f"before calibration: {percent(uncalibrated)}" * math.isfinite(uncalibrated),
            otherwise="ECE; lower is better",
        ),
        *cards,
    ]


def _card(run: RunContents, title: str, metric: str, note: str = "", otherwise: str = "") -> Card:
    """Return a metric's card: its interval or, where it is not known, what to say instead, and a note."""
    notes = (interval(run, metric) or otherwise, note)
    return Card(title, percent(run.metric(metric)), tuple(filter(None, notes)))


def bounds(run: RunContents, name: str) -> tuple[float, float]:
    """Return a metric's 95% interval: Wilson's for the accuracy, for others the measured one; NaN where unknown."""
    if name != "acc1":
        return run.metric(f"{name}_low"), run.metric(f"{name}_high")
    accuracy, total = run.metric("acc1"), len(run.predictions)
    if not total or not math.isfinite(accuracy):
        return math.nan, math.nan
    return wilson_interval(round(accuracy * total), total)


def interval(run: RunContents, name: str) -> str:
    """Return a metric's 95% interval as text; empty where it is not known."""
    low, high = bounds(run, name)
    return f"95% interval: {percent(low)} to {percent(high)}" if math.isfinite(low) else ""
