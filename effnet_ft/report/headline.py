"""The headline numbers of a run, with the intervals that they are sure to."""

from __future__ import annotations

import math

from effnet_ft.evaluation.proportions import wilson_interval
from effnet_ft.report.contents import SPLITS, RunContents
from effnet_ft.report.html_formats import cards, duration, show

_DRAWN = "from drawing the images again a thousand times (bootstrap), and are left out where every draw is the same"


def results(run: RunContents) -> str:
    """The headline numbers."""
    split = run.split_word.capitalize()
    if run.multilabel:
        html = cards(
            (
                f"{split} mean average precision",
                show(run.metric("map"), ".1%"),
                interval(run, "map") or "mean over the labels that occur",
            ),
            ("Macro F1", show(run.metric("macro_f1"), ".1%"), "thresholds of the validation images"),
            *_amounts(run),
        )
        return f"{html}<p>Intervals come {_DRAWN}.</p>"
    before = show(run.metric("ece_uncalibrated"), ".1%")
    html = cards(
        (
            f"{split} accuracy",
            show(run.metric("acc1"), ".1%"),
            interval(run, "acc1"),
            f"top five: {show(run.metric('acc5'), '.1%')}",
        ),
        ("Macro F1", show(run.metric("macro_f1"), ".1%"), interval(run, "macro_f1") or "mean over the classes"),
        (
            "Calibration error",
            show(run.metric("ece"), ".1%"),
            interval(run, "ece") or "ECE; lower is better",
            f"before calibration: {before}",
        ),
        *_amounts(run),
    )
    return f"{html}<p>The interval of the accuracy is Wilson's; the others come {_DRAWN}.</p>"


def _amounts(run: RunContents) -> tuple[tuple[str, ...], ...]:
    return (
        ("Images", f"{len(run.predictions):,}", f"{SPLITS[run.split]}, of {run.images:,} in all"),
        ("Training time", duration(run.metric("train_seconds")), f"{show(run.metric('images_per_second'))} images/s"),
    )


def bounds(run: RunContents, name: str) -> tuple[float, float]:
    """Return a metric's 95% interval: Wilson's of accuracy, of the others as it was measured; NaN where it has none."""
    if name != "acc1":
        return run.metric(f"{name}_low"), run.metric(f"{name}_high")
    share, total = run.metric("acc1"), len(run.predictions)
    return wilson_interval(round(share * total), total) if total and math.isfinite(share) else (math.nan, math.nan)


def interval(run: RunContents, name: str) -> str:
    """Return a metric's 95% interval in words, an empty text where it is not known."""
    low, high = bounds(run, name)
    return f"95% interval: {show(low, '.1%')} to {show(high, '.1%')}" if math.isfinite(low) else ""
