"""Answers of one image from its probabilities: the likeliest classes, or the labels that hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effnet_ft.data.sources.source import LABEL_SEPARATOR


def best_classes(probabilities: np.ndarray, classes: Sequence[str], top_k: int) -> list[tuple[str, float]]:
    """Return the ``top_k`` likeliest classes of one image's probabilities ``[K]``, best first."""
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [(classes[index], float(probabilities[index])) for index in order]


def best_labels(
    probabilities: np.ndarray, classes: Sequence[str], thresholds: Sequence[float]
) -> list[tuple[str, float]]:
    """Return the labels of one image whose probabilities ``[K]`` reach their thresholds, best first."""
    holds = probabilities >= np.asarray(thresholds, np.float64)
    return best_classes(np.where(holds, probabilities, -1.0), classes, int(holds.sum()))


def join_labels(labels: Sequence[tuple[str, float]]) -> tuple[str, str]:
    """Return the names of an image's labels and their probabilities, each as the text of a CSV cell."""
    return (
        LABEL_SEPARATOR.join(name for name, _ in labels),
        LABEL_SEPARATOR.join(f"{probability:.6f}" for _, probability in labels),
    )
