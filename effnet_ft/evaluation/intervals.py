"""95% confidence intervals of metrics.

Accuracy has Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953): 84% to 100% if 20 of 20 images
are right. Other metrics have Efron's percentile bootstrap; if every resample gives the same value, as with no errors,
the bootstrap says nothing and there is no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from effnet_ft.evaluation.metrics import ECE_BINS
from effnet_ft.evaluation.proportions import LEVEL, wilson_interval

RESAMPLES = 1000
_ROUNDING = 1e-9  # narrower intervals come from rounding alone
_MAX_WEIGHTS = 4_000_000  # weights, resamples times images, in memory at once


def class_intervals(probabilities: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of ``acc1``, ``macro_f1`` and ``ece``, where defined.

    Args:
        probabilities: float ``[N, K]``, rows sum to 1.
        labels: class indices, ``[N]``.
        seed: of the bootstrap.
    """
    right = int((probabilities.argmax(1) == labels).sum())
    return {"acc1": wilson_interval(right, len(labels)), **_intervals(bootstrap_classes(probabilities, labels, seed))}


def bootstrap_classes(probabilities: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Return ``macro_f1`` and ``ece`` of every resample, ``[R]``; arguments as for :func:`class_intervals`."""
    from scipy.sparse import csr_array

    count, classes = probabilities.shape
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    right = predicted == labels

    def by_group(groups: np.ndarray, rows: int, values: np.ndarray | None = None) -> csr_array:
        """Return a matrix whose product with weights sums an image value in each group."""
        data = np.ones(count) if values is None else values
        return csr_array((data, (groups, np.arange(count))), shape=(rows, count))

    hits = by_group(predicted, classes, right.astype(np.float64))
    totals = by_group(predicted, classes) + by_group(np.asarray(labels), classes)
    gaps = by_group(_bin_of(confidence), ECE_BINS + 1, right - confidence)
    resampled: dict[str, list[np.ndarray]] = {"macro_f1": [], "ece": []}
    for weights in bootstrap_counts(count, seed):
        resampled["macro_f1"].append(_macro_f1((hits @ weights.T).T, (totals @ weights.T).T))
        resampled["ece"].append(np.abs(gaps @ weights.T).sum(0) / count)
    return {name: np.concatenate(values) for name, values in resampled.items()}


def label_intervals(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: Sequence[float], seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of ``map``, ``macro_f1`` and ``ece``, where defined.

    Args:
        probabilities: float ``[N, K]``, of each label by itself.
        labels: 0 or 1, ``[N, K]``.
        thresholds: the probability from which each label is predicted, ``[K]``.
        seed: of the bootstrap.
    """
    return _intervals(bootstrap_labels(probabilities, labels, thresholds, seed))


def bootstrap_labels(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: Sequence[float], seed: int = 0
) -> dict[str, np.ndarray]:
    """Return ``map``, ``macro_f1`` and ``ece`` of every resample, ``[R]``; arguments as for :func:`label_intervals`."""
    p, true = np.asarray(probabilities), np.asarray(labels) > 0.5
    predicted = p >= np.asarray(thresholds, np.float64)
    count, classes = p.shape
    gaps = np.zeros((count, ECE_BINS + 1))
    np.add.at(gaps, (np.arange(count)[:, None], _bin_of(p)), true - p)
    rankings = [_ranking(p[:, label]) for label in range(classes)]
    resampled: dict[str, list[np.ndarray]] = {"map": [], "macro_f1": [], "ece": []}
    for weights in bootstrap_counts(count, seed):
        resampled["macro_f1"].append(_macro_f1(weights @ (true & predicted), weights @ true + weights @ predicted))
        resampled["ece"].append(np.abs(weights @ gaps).sum(1) / (count * classes))
        scores = [_average_precision(weights, *rankings[label], true[:, label]) for label in range(classes)]
        resampled["map"].append(_mean_where_defined(np.stack(scores, 1)))
    return {name: np.concatenate(values) for name, values in resampled.items()}


def bootstrap_counts(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each of ``count`` images is drawn, float64 ``[R, count]``, :data:`RESAMPLES` rows in all."""
    random = np.random.default_rng(seed)
    chunk = max(1, min(RESAMPLES, _MAX_WEIGHTS // max(1, count)))
    for start in range(0, RESAMPLES, chunk):
        rows = min(chunk, RESAMPLES - start)
        chosen = random.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _intervals(resampled: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    ends = {name: np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) for name, values in resampled.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items() if high - low > _ROUNDING}


def _bin_of(confidences: np.ndarray) -> np.ndarray:
    """Return torchmetrics' bins of the calibration error, 0 to :data:`ECE_BINS`; the last is for 1 alone."""
    bounds = np.linspace(0, 1, ECE_BINS + 1, dtype=confidences.dtype)
    return np.searchsorted(bounds, confidences, side="right") - 1


def _macro_f1(right: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return macro F1 of each row, from correct predictions and images plus predictions of each class, ``[R, K]``."""
    with np.errstate(invalid="ignore"):
        return _mean_where_defined(2 * right / totals)


def _ranking(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return images by falling probability, and for each position the last one with the same probability."""
    order = np.argsort(-probabilities, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
    return order, ends[np.searchsorted(ends, np.arange(len(order)))]


def _average_precision(weights: np.ndarray, order: np.ndarray, last: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the average precision of a label for each row of weights, NaN if no image with it was drawn."""
    ranked = weights[:, order]
    positives = ranked * true[order]
    retrieved, right = ranked.cumsum(1)[:, last], positives.cumsum(1)[:, last]
    with np.errstate(invalid="ignore"):
        scores: np.ndarray = (positives * right / np.maximum(retrieved, 1)).sum(1) / positives.sum(1)
    return scores


def _mean_where_defined(scores: np.ndarray) -> np.ndarray:
    defined = np.isfinite(scores)
    mean: np.ndarray = np.where(defined, scores, 0).sum(1) / np.maximum(defined.sum(1), 1)
    return mean
