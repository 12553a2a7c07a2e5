"""When to abstain: the confidence above which predictions are right as often as asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from effnet_ft.errors import DataError

ConfidenceRecord = Mapping[str, Sequence[float]]
"""Precision and coverage on images not trained on: falling confidence ``thresholds``, how many images were
``answered`` above each, and how many of them ``right``."""

RISK = 0.05  # probability that the precision above a given threshold is below its lower bound

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
    """Return the lowest confidence above which the lower bound of the precision reaches ``precision``.

    The bound is that of Clopper and Pearson (1934) at :data:`RISK`: a high share of few images may be luck.

    Args:
        record: of the model; None if it has none.
        precision: the share of predictions that should be right, between 0 and 1.

    Raises:
        DataError: if the model has no record, or the record shows no such precision.
    """
    from scipy.stats import beta

    if not 0 < precision < 1:
        raise DataError(f"the precision is {precision:g}, expected a number between 0 and 1, such as 0.95")
    if record is None:
        raise DataError(
            "the model has no record of its confidence on validation images, so it cannot abstain: only models with "
            "one class per image that were not trained on the validation images have one"
        )
    answered, right = (np.asarray(record[name], np.float64) for name in ("answered", "right"))
    bounds = np.nan_to_num(beta.ppf(RISK, right, answered - right + 1))  # NaN means 0: none is right
    enough = np.flatnonzero(bounds >= precision)
    if not len(enough):
        raise DataError(
            f"a precision of {precision:g} cannot be guaranteed: {int(right[-1])} of {int(answered[-1])} validation "
            f"images were right, which supports at most {np.floor(1000 * bounds.max()) / 1000:g}, on the most "
            "confident of them; ask for less, or train with more validation images (data.val_fraction)"
        )
    return float(record["thresholds"][enough[-1]])
