"""The reliability diagram, and precision against coverage."""

import math
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from effnet_ft.errors import DataError
from effnet_ft.inference.selective_prediction import ConfidenceRecord, confidence_threshold, precision_coverage
from effnet_ft.report.charts import FRACTIONS, Chart, Series, Spot, axis_start, percent_ticks
from effnet_ft.report.contents import RunContents
from effnet_ft.report.formats import TableCell, cell, percent
from effnet_ft.utils.text import counted

BINS = 15  # as of the calibration error
TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995)  # precisions of a model that may abstain
POINTS = 300  # most points of the precision curve: more cannot be distinguished


class ReliabilityBin(NamedTuple):
    """Predictions of similar probability: its bounds, their number, mean probability and accuracy."""

    low: float
    high: float
    images: int
    probability: float
    accuracy: float


def confidence(run: RunContents) -> dict[str, Any] | None:
    """Return both diagrams and a table of thresholds; None for multi-label runs."""
    if run.multilabel or not run.predictions:
        return None
    predictor = run.thumbnails.predictor
    record = None if predictor is None else predictor.model.record
    targets = [] if record is None else _targets(run, record)
    unreached = bool(targets) and not any(math.isfinite(cells[0].value) for _, cells in targets)
    charts = [_reliability(run), _coverage(run)]
    return {"run": run, "charts": charts, "targets": targets, "unreached": TARGETS[0] if unreached else None}


def reliability_bins(probability: np.ndarray, correct: np.ndarray) -> list[ReliabilityBin]:
    """Return the bins that hold predictions, the lowest first."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    found = []
    for number in np.unique(place):
        inside = place == number
        means = float(probability[inside].mean()), float(correct[inside].mean())
        found.append(ReliabilityBin(number / BINS, (number + 1) / BINS, int(inside.sum()), *means))
    return found


def _reliability(run: RunContents) -> Chart:
    series = [Series("ideal", points=[(0, 0), (1, 1)])]
    kinds = [("val", "before calibration", run.uncalibrated), ("train", "calibrated", run.probability)]
    for style, label, probability in kinds if len(run.uncalibrated) else [("train", "predictions", run.probability)]:
        spots = []
        for low, high, count, mean, accuracy in reliability_bins(probability, run.correct):
            tip = f"{counted(count, 'prediction')} of {low:.0%} to {high:.0%}: mean {mean:.1%}, {accuracy:.1%} correct"
            spots.append(Spot(mean, accuracy, tip, radius=round(2 + 8 * math.sqrt(count / len(probability)), 1)))
        series.append(Series(style, label, [(spot.x, spot.y) for spot in spots], spots))
    about = "accuracy against predicted probability"
    return Chart("Accuracy", "probability", (0, 1), (0, 1), FRACTIONS, percent_ticks(0, 1), series, about=about)


def _coverage(run: RunContents) -> Chart:
    _, precision, coverage = precision_coverage(run.probability, run.correct)
    some = np.unique(np.linspace(0, len(coverage) - 1, min(POINTS, len(coverage))).round().astype(int))
    low = axis_start(float(precision[some].min()), 0.05)
    points = list(zip(coverage[some].tolist(), precision[some].tolist(), strict=True))
    series = [Series("train", "of the answers given", points)]
    x_title, about = "coverage: share of images answered, most confident first", "precision against coverage"
    return Chart("Precision", x_title, (0, 1), (low, 1), FRACTIONS, percent_ticks(low, 1), series, about=about)


def _targets(run: RunContents, record: ConfidenceRecord) -> list[tuple[str, list[TableCell]]]:
    """Return threshold, coverage and precision for each of ``TARGETS``."""
    rows = []
    for target in TARGETS:
        threshold = coverage = precision = math.nan
        with suppress(DataError):  # no threshold reaches it on the validation images
            threshold = confidence_threshold(record, target)
            answered = run.probability >= threshold
            coverage = float(answered.mean())
            precision = float(run.correct[answered].mean()) if answered.any() else math.nan
        rows.append((percent(target), [cell(value, percent) for value in (threshold, coverage, precision)]))
    return rows
