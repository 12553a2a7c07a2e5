"""95% confidence intervals of metrics, each of which covers the truth in 90% of draws or more.

Accuracy has Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953): 84% to 100% if 20 of 20 images
are right. Macro F1 and mean average precision have Efron's bias-corrected bootstrap (Efron 1987,
doi:10.2307/2289144) where it can be relied on: with :data:`FEWEST` images of each class and as many mistakes. Fewer
make it cover the truth too seldom, so there is none; nor does the calibration error have one, since resampling
itself raises it.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

LEVEL = 0.95  # confidence level of all intervals
RESAMPLES = 1000
FEWEST = 10  # images of each class, and mistakes, from which on a bootstrap is relied on
_MAX_WEIGHTS = 4_000_000  # weights, resamples times images, in memory at once

Statistic = Callable[[np.ndarray], np.ndarray]
"""From how often each image counts, float ``[R, N]``, to a metric, ``[R]``."""


def class_intervals(probabilities: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of ``acc1`` and, where it has one, ``macro_f1``.

    Args:
        probabilities: float ``[N, K]``, rows sum to 1.
        labels: class indices, ``[N]``.
        seed: of the bootstrap.
    """
    predicted, count = probabilities.argmax(1), len(labels)
    right = int((predicted == labels).sum())
    intervals = {"acc1": wilson_interval(right, count)}
    if min(*np.unique(labels, return_counts=True)[1], right, count - right) >= FEWEST:
        intervals["macro_f1"] = bootstrap_interval(class_f1(predicted, labels, probabilities.shape[1]), count, seed)
    return intervals


def label_intervals(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: Sequence[float], seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of ``map`` and ``macro_f1``, where they have one.

    Args:
        probabilities: float ``[N, K]``, of each label by itself.
        labels: 0 or 1, ``[N, K]``.
        thresholds: the probability from which each label is predicted, ``[K]``.
        seed: of the bootstrap.
    """
    true = np.asarray(labels) > 0.5
    predicted = np.asarray(probabilities) >= np.asarray(thresholds, np.float64)
    images = true.sum(0)[true.any(0)]
    if not len(images) or min(images.min(), len(true) - images.max()) < FEWEST or (true != predicted).sum() < FEWEST:
        return {}
    statistics = {"map": label_precision(probabilities, true), "macro_f1": label_f1(predicted, true)}
    return {name: bootstrap_interval(statistic, len(true), seed) for name, statistic in statistics.items()}


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of ``right / total``; ``total`` is at least 1."""
    from scipy.stats import binomtest

    interval = binomtest(right, total).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def class_f1(predicted: np.ndarray, labels: np.ndarray, classes: int) -> Statistic:
    """Return macro F1 of class indices ``[N]`` as a function of the images' weights."""
    from scipy.sparse import csr_array

    images = np.arange(len(labels))

    def by_class(indices: np.ndarray, values: np.ndarray) -> csr_array:
        return csr_array((values, (indices, images)), shape=(classes, len(images)))

    hits = by_class(predicted, (predicted == labels).astype(np.float64))
    totals = by_class(predicted, np.ones(len(images))) + by_class(np.asarray(labels), np.ones(len(images)))
    return lambda weights: _macro_f1((hits @ weights.T).T, (totals @ weights.T).T)


def label_f1(predicted: np.ndarray, true: np.ndarray) -> Statistic:
    """Return macro F1 of labels, bool ``[N, K]``, as a function of the images' weights."""
    return lambda weights: _macro_f1(weights @ (true & predicted), weights @ true + weights @ predicted)


def label_precision(probabilities: np.ndarray, true: np.ndarray) -> Statistic:
    """Return the mean average precision of labels, bool ``[N, K]``, as a function of the images' weights."""
    rankings = [_ranking(np.asarray(p)) for p in np.asarray(probabilities).T]

    def statistic(weights: np.ndarray) -> np.ndarray:
        scores = [_average_precision(weights, *ranking, y) for ranking, y in zip(rankings, true.T, strict=True)]
        return _mean_where_defined(np.stack(scores, 1))

    return statistic


def bootstrap_interval(statistic: Statistic, count: int, seed: int = 0) -> tuple[float, float]:
    """Return the bias-corrected bootstrap interval of a metric of ``count`` images."""
    from scipy.special import ndtr, ndtri

    measured = float(statistic(np.ones((1, count)))[0])
    drawn = np.concatenate([statistic(weights) for weights in bootstrap_counts(count, seed)])
    below = (np.mean(drawn < measured - 1e-9) + np.mean(drawn <= measured + 1e-9)) / 2  # rounding makes no difference
    bias = ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    low, high = np.quantile(drawn, ndtr(2 * bias + ndtri([(1 - LEVEL) / 2, (1 + LEVEL) / 2])))
    return float(low), float(high)


def bootstrap_counts(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each of ``count`` images is drawn, float64 ``[R, count]``, :data:`RESAMPLES` rows in all."""
    random = np.random.default_rng(seed)
    chunk = max(1, min(RESAMPLES, _MAX_WEIGHTS // max(1, count)))
    for start in range(0, RESAMPLES, chunk):
        rows = min(chunk, RESAMPLES - start)
        chosen = random.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


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
