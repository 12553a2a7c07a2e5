"""How far the probabilities can be trusted: the reliability diagram, and precision against coverage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from effnet_ft.errors import DataError
from effnet_ft.inference.selective_prediction import precision_coverage, threshold_for
from effnet_ft.report.charts import Axes, figure
from effnet_ft.report.contents import RunContents
from effnet_ft.report.html_formats import DASH, show, table

BINS = 15  # as the calibration error has them
TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995)
_POINTS = 300  # of the precision curve: more cannot be told apart


@dataclass(frozen=True)
class Bin:
    """Answers of about the same probability: its bounds, how many, its mean, and the share of right ones."""

    low: float
    high: float
    count: int
    probability: float
    right: float


def confidence(run: RunContents) -> str:
    """Both diagrams; nothing where images have several labels."""
    if run.multilabel or not run.predictions:
        return ""
    return f'<p>{_words(run)}</p><div class="charts">{_reliability(run)}{_coverage(run)}</div>{_targets(run)}'


def _words(run: RunContents) -> str:
    temperature, after, before = (run.metric(key) for key in ("temperature", "ece", "ece_uncalibrated"))
    text = "Of the answers with a probability of 80%, 80% should be right: points on the diagonal. "
    if not math.isfinite(temperature):
        return text + f"The expected calibration error is {show(after, '.1%')}; no temperature was fitted."
    return text + (
        f"The logits are divided by a temperature of {temperature:.3g}, fitted on the validation images: the expected "
        f"calibration error is {show(after, '.1%')}, without it {show(before, '.1%')}."
    )


def bins(probability: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Return the bins that hold answers, the lowest first."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    found = []
    for number in np.unique(place):
        inside = place == number
        mean, share = float(probability[inside].mean()), float(right[inside].mean())
        found.append(Bin(number / BINS, (number + 1) / BINS, int(inside.sum()), mean, share))
    return found


def _reliability(run: RunContents) -> str:
    axes = Axes((0, 1), (0, 1))
    drawing = axes.grid("%") + axes.labels((0, 0.2, 0.4, 0.6, 0.8, 1), ".0%", "probability")
    drawing += axes.line([(0, 0), (1, 1)], "ideal")
    calibrated = bool(len(run.raw))
    keys = [("train", "calibrated" if calibrated else "answers")]
    for kind, probability in (("val", run.raw), ("train", run.probability)):
        if not len(probability):
            continue
        found = bins(probability, run.right)
        tips = [
            f"{each.count} answers of {each.low:.0%} to {each.high:.0%}: mean {each.probability:.1%}, "
            f"{each.right:.1%} right"
            for each in found
        ]
        sizes = [2 + 8 * math.sqrt(each.count / len(probability)) for each in found]
        drawing += axes.line([(each.probability, each.right) for each in found], kind, tips, sizes)
    keys += [("val", "before calibration")] if calibrated else []
    return figure("Right answers", drawing, keys, "share of right answers against their probability")


def _coverage(run: RunContents) -> str:
    _, precision, coverage = precision_coverage(run.probability, run.right)
    some = np.unique(np.linspace(0, len(coverage) - 1, min(_POINTS, len(coverage))).round().astype(int))
    low = min(0.95, math.floor(float(precision[some].min()) * 19.99) / 20)
    axes = Axes((0, 1), (low, 1))
    drawing = axes.grid("%")
    drawing += axes.labels((0, 0.2, 0.4, 0.6, 0.8, 1), ".0%", "images that are answered, the surest first")
    drawing += axes.line(list(zip(coverage[some].tolist(), precision[some].tolist(), strict=True)), "train")
    return figure("Precision", drawing, [("train", "of the answers that are given")], "precision against coverage")


def _targets(run: RunContents) -> str:
    """What asking for a precision of each of ``TARGETS`` gives: thresholds chosen on validation images, kept here."""
    predictor = run.pictures.predictor
    record = None if predictor is None else predictor.model.record
    if record is None:
        return ""
    rows = []
    for target in TARGETS:
        try:
            threshold = threshold_for(record, target)
        except DataError:  # the validation images bear no such precision out
            rows.append((f"{target:.1%}", [(math.nan, DASH)] * 3))
            continue
        answered = run.probability >= threshold
        right = float(run.right[answered].mean()) if answered.any() else math.nan
        values = (threshold, float(answered.mean()), right)
        rows.append((f"{target:.1%}", [(value, show(value, ".1%")) for value in values]))
    if all(math.isnan(first) for _, ((first, _), *_) in rows):
        return (
            f"<p>The validation images are too few, or too often mistaken, to bear out a precision of {TARGETS[0]:.0%} "
            "by any threshold: a model that may abstain needs more of them.</p>"
        )
    head = ("Precision asked for", "Answered from a probability of", "Images answered", "Right among them")
    return (
        f"<p>A model that may abstain: thresholds chosen on the validation images, where they bear the precision out, "
        f"and what they give on the {run.split_word} images.</p>{table(head, rows)}"
    )
