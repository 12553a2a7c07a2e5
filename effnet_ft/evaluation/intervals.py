"""How far a metric could be off: its 95% confidence interval.

Accuracy is a share of images, and has Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953): of 20
images that are all right, 84% to 100%. The other metrics have those of drawing the images again (Efron's percentile
bootstrap). Where every draw gives the same value, as where all answers are right, drawing says nothing about images
that were not measured: such a metric has no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from effnet_ft.evaluation.metrics import ECE_BINS
from effnet_ft.evaluation.proportions import LEVEL, wilson_interval

RESAMPLES = 1000
_SAME = 1e-9
"""A narrower interval is of values that differ by their rounding alone."""
_AT_ONCE = 4_000_000
"""Weights of images, resamples times images, that are held at once."""


def class_intervals(probabilities: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of accuracy, macro F1 and calibration error.

    Args:
        probabilities: float ``[N, K]``, rows sum to 1.
        labels: class indices, ``[N]``.
        seed: of the drawing.

    Returns:
        Lower and upper end of ``acc1``, ``macro_f1`` and ``ece``, as
        :func:`~effnet_ft.evaluation.metrics.classification_metrics` defines them; without those that have no interval.
    """
    right = int((probabilities.argmax(1) == labels).sum())
    return {"acc1": wilson_interval(right, len(labels)), **_intervals(bootstrap_classes(probabilities, labels, seed))}


def bootstrap_classes(probabilities: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Return ``macro_f1`` and ``ece`` of every draw, ``[R]``; arguments as of :func:`class_intervals`."""
    from scipy.sparse import csr_array

    count, classes = probabilities.shape
    guessed, confidence = probabilities.argmax(1), probabilities.max(1)
    right = guessed == labels

    def members(groups: np.ndarray, number: int, values: np.ndarray | None = None) -> csr_array:
        given = np.ones(count) if values is None else values
        return csr_array((given, (groups, np.arange(count))), shape=(number, count))

    hits = members(guessed, classes, right.astype(np.float64))
    amounts = members(guessed, classes) + members(np.asarray(labels), classes)
    gaps = members(_bin_of(confidence), ECE_BINS + 1, right - confidence)
    drawn: dict[str, list[np.ndarray]] = {"macro_f1": [], "ece": []}
    for weights in bootstrap_counts(count, seed):
        drawn["macro_f1"].append(_f1_of((hits @ weights.T).T, (amounts @ weights.T).T))
        drawn["ece"].append(np.abs(gaps @ weights.T).sum(0) / count)
    return {name: np.concatenate(values) for name, values in drawn.items()}


def label_intervals(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: Sequence[float], seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of mean average precision, macro F1 and calibration error.

    Args:
        probabilities: float ``[N, K]``, of each label by itself.
        labels: 0 or 1, ``[N, K]``.
        thresholds: the probability from which each label is taken to hold, ``[K]``.
        seed: of the drawing.

    Returns:
        Lower and upper end of ``map``, ``macro_f1`` and ``ece``, as
        :func:`~effnet_ft.evaluation.metrics.multilabel_metrics` defines them; without those that have no interval.
    """
    return _intervals(bootstrap_labels(probabilities, labels, thresholds, seed))


def bootstrap_labels(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: Sequence[float], seed: int = 0
) -> dict[str, np.ndarray]:
    """Return ``map``, ``macro_f1`` and ``ece`` of every draw, ``[R]``; arguments as of :func:`label_intervals`."""
    p, held = np.asarray(probabilities), np.asarray(labels) > 0.5
    guessed = p >= np.asarray(thresholds, np.float64)
    count, classes = p.shape
    gaps = np.zeros((count, ECE_BINS + 1))
    np.add.at(gaps, (np.arange(count)[:, None], _bin_of(p)), held - p)
    ranked = [_ranking(p[:, label]) for label in range(classes)]
    drawn: dict[str, list[np.ndarray]] = {"map": [], "macro_f1": [], "ece": []}
    for weights in bootstrap_counts(count, seed):
        drawn["macro_f1"].append(_f1_of(weights @ (held & guessed), weights @ held + weights @ guessed))
        drawn["ece"].append(np.abs(weights @ gaps).sum(1) / (count * classes))
        scores = [_average_precision(weights, *ranked[label], held[:, label]) for label in range(classes)]
        drawn["map"].append(_mean_where_defined(np.stack(scores, 1)))
    return {name: np.concatenate(values) for name, values in drawn.items()}


def bootstrap_counts(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each of ``count`` images is drawn, float64 ``[R, count]``, :data:`RESAMPLES` rows in all."""
    random = np.random.default_rng(seed)
    at_once = max(1, min(RESAMPLES, _AT_ONCE // max(1, count)))
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        chosen = random.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _intervals(drawn: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    ends = {name: np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) for name, values in drawn.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items() if high - low > _SAME}


def _bin_of(confidences: np.ndarray) -> np.ndarray:
    """Return torchmetrics' bins of the calibration error, 0 to :data:`ECE_BINS`; the last is for 1 alone."""
    bounds = np.linspace(0, 1, ECE_BINS + 1, dtype=confidences.dtype)
    return np.searchsorted(bounds, confidences, side="right") - 1


def _f1_of(right: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Return macro F1 of each row, over the classes that occur among its labels or predictions.

    Args:
        right: images of each class that are rightly predicted, ``[R, K]``.
        amounts: images that are of the class plus images that are predicted to be, ``[R, K]``.
    """
    with np.errstate(invalid="ignore"):
        return _mean_where_defined(2 * right / amounts)


def _ranking(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return images by falling probability, and for each place the last one with the same: they are taken together."""
    order = np.argsort(-probabilities, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
    return order, ends[np.searchsorted(ends, np.arange(len(order)))]


def _average_precision(weights: np.ndarray, order: np.ndarray, last: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return the average precision of one label for each row of weights, NaN where no image with it was drawn."""
    drawn = weights[:, order]
    found = drawn * held[order]
    taken, right = drawn.cumsum(1)[:, last], found.cumsum(1)[:, last]
    total = found.sum(1)
    with np.errstate(invalid="ignore"):
        scores: np.ndarray = (found * right / np.maximum(taken, 1)).sum(1) / total
    return scores


def _mean_where_defined(scores: np.ndarray) -> np.ndarray:
    defined = np.isfinite(scores)
    mean: np.ndarray = np.where(defined, scores, 0).sum(1) / np.maximum(defined.sum(1), 1)
    return mean
