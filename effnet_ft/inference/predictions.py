"""Predicted classes or labels of an image from its probabilities."""

from collections.abc import Sequence

import numpy as np

from effnet_ft.data.sources.source import LABEL_SEPARATOR


def best_classes(probabilities: np.ndarray, classes: Sequence[str], top_k: int) -> list[tuple[str, float]]:
    """Return the ``top_k`` most likely classes of an image's probabilities ``[K]``, best first."""
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [(classes[index], float(probabilities[index])) for index in order]


def best_labels(
    probabilities: np.ndarray, classes: Sequence[str], thresholds: Sequence[float]
) -> list[tuple[str, float]]:
    """Return the labels of an image whose probabilities ``[K]`` reach their thresholds, best first."""
    predicted = probabilities >= np.asarray(thresholds, np.float64)
    return best_classes(np.where(predicted, probabilities, -1.0), classes, int(predicted.sum()))


def join_labels(labels: Sequence[tuple[str, float]]) -> tuple[str, str]:
    """Return an image's label names, and their probabilities, each joined for a CSV cell."""
    return (
        LABEL_SEPARATOR.join(name for name, _ in labels),
        LABEL_SEPARATOR.join(f"{probability:.6f}" for _, probability in labels),
    )
