"""When to abstain: the confidence above which predictions are right as often as asked."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from effnet_ft.errors import DataError

ConfidenceRecord = Mapping[str, Sequence[float]]
"""Precision and coverage on images not trained on: falling confidence ``thresholds``, how many images were
``answered`` above each, and how many of them ``right``."""

RISK = 0.05  # probability that the precision above the chosen threshold is below the one asked for
_TESTED_ROWS = 60  # thresholds that are tested
_DRAWS = 4000  # of the simulation that finds the level of the tests

_MAX_ROWS = 1000  # of a record; with more images, evenly spaced rows are kept


def confidence_record(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """Return the record of calibrated probabilities ``[N, K]`` for class indices ``[N]`` of images not trained on."""
    count = len(labels)
    right = probabilities.argmax(1) == labels
    thresholds, precision, coverage = precision_coverage(probabilities.max(1), right)
    rows = np.unique(np.linspace(0, len(thresholds) - 1, min(_MAX_ROWS, len(thresholds))).round().astype(int))
    answered = (coverage * count).round().astype(int)
    return {
        "thresholds": thresholds[rows].tolist(),
        "answered": answered[rows].tolist(),
        "right": (precision * answered).round().astype(int)[rows].tolist(),
    }


def precision_coverage(confidences: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the precision at every coverage, if only the most confident predictions are given.

    Args:
        confidences: the probability of each prediction, ``[N]``.
        right: whether it is right, ``[N]``.

    Returns:
        Falling thresholds, midway between two confidences and 0 at the end; the precision of the predictions that
        reach each; and the share of images that they are, rising to 1.
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    falling = np.asarray(confidences, np.float64)[order]
    lower = np.append(falling[1:], -np.inf)[: len(order)]
    ends = np.flatnonzero(falling > lower)
    thresholds = np.maximum((falling[ends] + lower[ends]) / 2, 0)
    answered = ends + 1
    precision = np.asarray(right, bool)[order].cumsum()[ends] / answered
    return thresholds, precision, answered / max(1, len(order))


def confidence_threshold(record: ConfidenceRecord | None, precision: float) -> float:
    """Return the lowest confidence above which, with 95% confidence, at least ``precision`` of predictions are right.

    Thresholds are tested together: the chance that any of them passes whose precision is too low is :data:`RISK`.

    Args:
        record: of the model; None if it has none.
        precision: the share of predictions that should be right, between 0 and 1.

    Raises:
        DataError: if the model has no record, or no threshold passes.
    """
    if not 0 < precision < 1:
        raise DataError(f"the precision is {precision:g}, expected a number between 0 and 1, such as 0.95")
    if record is None:
        raise DataError(
            "the model has no record of its confidence on validation images, so it cannot abstain: only models with "
            "one class per image that were not trained on the validation images have one"
        )
    answered, right = (np.asarray(record[name], np.int64) for name in ("answered", "right"))
    row = _last_row_that_passes(answered, right, precision)
    if row is None:
        percents = range(1, int(100 * precision) + 1)
        passing = bisect(percents, 0, key=lambda percent: _last_row_that_passes(answered, right, percent / 100) is None)
        supported = f"which support at most {passing / 100:g}" if passing else "which support none"
        raise DataError(
            f"a precision of {precision:g} cannot be guaranteed: {right[-1]} of {answered[-1]} validation images were "
            f"right, {supported}; ask for less, or train with more validation images (data.val_fraction)"
        )
    return float(record["thresholds"][row])


def _last_row_that_passes(answered: np.ndarray, right: np.ndarray, precision: float) -> int | None:
    """Return the last of a record's rows above which the precision is high enough; None if there is none."""
    from scipy.stats import binom

    fewest = np.log(RISK) / np.log(precision)  # with fewer images, even none wrong would not do
    if answered[-1] < fewest:
        return None
    counts = np.geomspace(fewest, answered[-1], _TESTED_ROWS).clip(max=answered[-1])
    rows = np.unique(np.searchsorted(answered, counts))
    level = _level(tuple(answered[rows].tolist()), precision)
    passing = rows[binom.sf(right[rows] - 1, answered[rows], precision) <= level]
    return int(passing[-1]) if len(passing) else None


@lru_cache(maxsize=256)
def _level(answered: tuple[int, ...], precision: float) -> float:
    """Return the level of each test of nested sets of images at which any of them errs in :data:`RISK` of draws.

    It is found by simulation, with every prediction right with probability ``precision``.
    """
    from scipy.stats import binom

    sizes = np.diff(answered, prepend=0)
    right = np.random.default_rng(0).binomial(sizes, precision, (_DRAWS, len(sizes))).cumsum(1)
    lowest = np.sort(binom.sf(right - 1, answered, precision).min(1))
    return float(lowest[lowest < lowest[int(RISK * _DRAWS)]].max(initial=0.0))
