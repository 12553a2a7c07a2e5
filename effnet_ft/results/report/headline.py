"""The headline numbers of a run, with the intervals that they are sure to."""

from __future__ import annotations

import math

from effnet_ft.results.report.contents import SPLITS, Contents
from effnet_ft.results.report.formats import cards, duration, show


def results(run: Contents) -> str:
    """The headline numbers."""
    split = run.split_word.capitalize()
    if run.multilabel:
        return cards(
            (
                f"{split} mean average precision",
                show(run.metric("map"), ".1%"),
                interval(run, "map") or "mean over the labels that occur",
            ),
            ("Macro F1", show(run.metric("macro_f1"), ".1%"), "thresholds of the validation images"),
            *_amounts(run),
        )
    before = show(run.metric("ece_uncalibrated"), ".1%")
    return cards(
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


def _amounts(run: Contents) -> tuple[tuple[str, ...], ...]:
    return (
        ("Images", f"{len(run.predictions):,}", f"{SPLITS[run.split]}, of {run.images:,} in all"),
        ("Training time", duration(run.metric("train_seconds")), f"{show(run.metric('images_per_second'))} images/s"),
    )


def bounds(run: Contents, name: str) -> tuple[float, float]:
    """Return a metric's 95% interval as it was measured; of an older run's accuracy Wilson's; else NaN."""
    low, high = run.metric(f"{name}_low"), run.metric(f"{name}_high")
    if name == "acc1" and not math.isfinite(low):
        return wilson(run.metric("acc1"), len(run.predictions))
    return low, high


def interval(run: Contents, name: str) -> str:
    """Return a metric's 95% interval in words, an empty text where it is not known."""
    low, high = bounds(run, name)
    return f"95% interval: {show(low, '.1%')} to {show(high, '.1%')}" if math.isfinite(low) else ""


def wilson(share: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share of `total` (95% with the default `z`); NaN where there is no share."""
    if not total or math.isnan(share):
        return math.nan, math.nan
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (middle - half) / (1 + z * z / total)), min(1.0, (middle + half) / (1 + z * z / total))
