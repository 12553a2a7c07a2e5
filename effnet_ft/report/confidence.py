"""How far the probabilities can be trusted: the reliability diagram, and precision against coverage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from effnet_ft.errors import DataError
from effnet_ft.inference.selective_prediction import ConfidenceRecord, confidence_threshold, precision_coverage
from effnet_ft.report.charts import FRACTIONS, Chart, Series, Spot, axis_start, percent_ticks
from effnet_ft.report.contents import RunContents
from effnet_ft.report.formats import counted, percent
from effnet_ft.report.sortable_table import SortableTable, cells

BINS = 15  # as of the calibration error
TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995)
"""Precisions that a model which may abstain is asked for."""

POINTS = 300
"""Most points of the precision curve: more cannot be told apart."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar probability: its bounds, their number, mean probability and accuracy."""

    low: float
    high: float
    count: int
    probability: float
    accuracy: float


@dataclass(frozen=True)
class Confidence:
    """What the section shows.

    Attributes:
        run: the run.
        charts: the reliability diagram and precision against coverage.
        targets: what asking for a precision gives; None where the model has no record to choose thresholds by, or no
            target is reached.
        unreached: the lowest target, where none is reached; 0 otherwise.
    """

    run: RunContents
    charts: list[Chart]
    targets: SortableTable | None
    unreached: float


def confidence(run: RunContents) -> Confidence | None:
    """Return both diagrams and the thresholds; nothing where images have several labels."""
    if run.multilabel or not run.predictions:
        return None
    predictor = run.thumbnails.predictor
    record = None if predictor is None else predictor.model.record
    targets = None if record is None else _targets(run, record)
    reached = targets and any(math.isfinite(row[0].value) for _, row in targets.rows)
    charts = [_reliability(run), _coverage(run)]
    return Confidence(run, charts, targets if reached else None, TARGETS[0] if targets and not reached else 0.0)


def reliability_bins(probability: np.ndarray, correct: np.ndarray) -> list[ReliabilityBin]:
    """Return the bins that hold predictions, the lowest first."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    found = []
    for number in np.unique(place):
        inside = place == number
        mean, accuracy = float(probability[inside].mean()), float(correct[inside].mean())
        found.append(ReliabilityBin(number / BINS, (number + 1) / BINS, int(inside.sum()), mean, accuracy))
    return found


def _reliability(run: RunContents) -> Chart:
    series = [Series("ideal", points=[(0, 0), (1, 1)])]
    kinds = [("train", "predictions", run.probability)]
    if len(run.uncalibrated):
        kinds = [("val", "before calibration", run.uncalibrated), ("train", "calibrated", run.probability)]
    for style, label, probability in kinds:
        bins = reliability_bins(probability, run.correct)
        spots = [
            Spot(
                each.probability,
                each.accuracy,
                f"{counted(each.count, 'prediction')} of {each.low:.0%} to {each.high:.0%}: "
                f"mean {each.probability:.1%}, {each.accuracy:.1%} correct",
                radius=round(2 + 8 * math.sqrt(each.count / len(probability)), 1),
            )
            for each in bins
        ]
        series.append(Series(style, label, [(spot.x, spot.y) for spot in spots], spots))
    about = "accuracy against predicted probability"
    return Chart("Accuracy", "probability", (0, 1), (0, 1), FRACTIONS, percent_ticks(0, 1), series, about=about)


def _coverage(run: RunContents) -> Chart:
    _, precision, coverage = precision_coverage(run.probability, run.correct)
    some = np.unique(np.linspace(0, len(coverage) - 1, min(POINTS, len(coverage))).round().astype(int))
    low = axis_start(float(precision[some].min()), 0.05)
    points = list(zip(coverage[some].tolist(), precision[some].tolist(), strict=True))
    return Chart(
        "Precision",
        "coverage: share of images answered, most confident first",
        (0, 1),
        (low, 1),
        FRACTIONS,
        percent_ticks(low, 1),
        [Series("train", "of the answers given", points)],
        about="precision against coverage",
    )


def _targets(run: RunContents, record: ConfidenceRecord) -> SortableTable:
    """Return what asking for each of ``TARGETS`` gives, by thresholds chosen on the validation images."""
    rows = []
    for target in TARGETS:
        values = (math.nan, math.nan, math.nan)
        try:
            threshold = confidence_threshold(record, target)
        except DataError:  # no threshold reaches it on the validation images
            pass
        else:
            answered = run.probability >= threshold
            precision = float(run.correct[answered].mean()) if answered.any() else math.nan
            values = (threshold, float(answered.mean()), precision)
        rows.append((percent(target), cells(values, (percent, percent, percent))))
    return SortableTable(("Target precision", "Threshold", "Coverage", "Precision"), rows)
