"""When to give no answer: the confidence from which a model is right as often as asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from effnet_ft.errors import DataError

ConfidenceRecord = Mapping[str, Sequence[float]]
"""How a model did on images that it was not trained on: ``thresholds`` of its confidence, falling; how many images it
``answered`` from each on, and how many of the answers were ``right``."""

RISK = 0.05
"""The chance that the precision beyond a threshold is below its bound, for one threshold that was not chosen."""

_MOST = 1000
"""Rows of a record; of more images evenly spaced ones are kept."""


def confidence_record(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """Return the :data:`ConfidenceRecord` of answers to images that were not trained on.

    Args:
        probabilities: float ``[N, K]``, calibrated.
        labels: class indices, ``[N]``.
    """
    count = len(labels)
    right = probabilities.argmax(1) == labels
    thresholds, precision, coverage = precision_coverage(probabilities.max(1), right)
    kept = np.unique(np.linspace(0, len(thresholds) - 1, min(_MOST, len(thresholds))).round().astype(int))
    answered = (coverage * count).round().astype(int)
    return {
        "thresholds": thresholds[kept].tolist(),
        "answered": answered[kept].tolist(),
        "right": (precision * answered).round().astype(int)[kept].tolist(),
    }


def precision_coverage(confidences: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what answering only the surest images gives: precision at every share of images that is answered.

    Args:
        confidences: the probability of each image's answer, ``[N]``.
        right: whether the answer is right, ``[N]``.

    Returns:
        Thresholds, falling; precision, the share of right ones among the images whose confidence reaches the
        threshold; and coverage, the share of those images among all, rising to 1. Images of the same confidence are
        answered together. A threshold lies midway between two confidences, the last one at 0.
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    falling = np.asarray(confidences, np.float64)[order]
    lower = np.append(falling[1:], -np.inf)[: len(order)]
    ends = np.flatnonzero(falling > lower)
    thresholds = np.maximum((falling[ends] + lower[ends]) / 2, 0)
    answered = ends + 1
    precision = np.asarray(right, bool)[order].cumsum()[ends] / answered
    return thresholds, precision, answered / max(1, len(order))


def threshold_for(record: ConfidenceRecord | None, precision: float) -> float:
    """Return the lowest confidence from which answers are right often enough.

    Often enough by the lower bound of Clopper and Pearson (1934) at :data:`RISK`, not by the share itself: of few
    images a high share is luck.

    Args:
        record: of the model; None where it has none.
        precision: the share of answers that should be right, between 0 and 1.

    Raises:
        DataError: where the model has no record, or its record bears no such precision out.
    """
    from scipy.stats import beta

    if not 0 < precision < 1:
        raise DataError(f"a precision of {precision:g} is asked for: give one between 0 and 1, such as 0.95")
    if record is None:
        raise DataError(
            "the model has no record of how it did on validation images, so it cannot tell when to abstain: such "
            "records are of models that tell one class an image, and were not trained on the validation images too"
        )
    answered, right = (np.asarray(record[name], np.float64) for name in ("answered", "right"))
    bounds = np.nan_to_num(beta.ppf(RISK, right, answered - right + 1))  # not defined, and 0, where none is right
    enough = np.flatnonzero(bounds >= precision)
    if not len(enough):
        raise DataError(
            f"a precision of {precision:g} cannot be vouched for: {int(right[-1])} of {int(answered[-1])} validation "
            f"images were answered rightly, which bears out at most {np.floor(1000 * bounds.max()) / 1000:g}, on the "
            "surest of them; ask for less, or train with more validation images (data.val_fraction)"
        )
    return float(record["thresholds"][enough[-1]])
