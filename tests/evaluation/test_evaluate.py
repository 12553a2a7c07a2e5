"""What an evaluation knows besides its metrics."""

from __future__ import annotations

import numpy as np

from effnet_ft.evaluation.evaluate import Evaluation


def test_classes_without_a_correct_prediction_are_named() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1, 0.0], [0.2, 0.7, 0.1, 0.0], [0.6, 0.3, 0.1, 0.0], [0.1, 0.6, 0.3, 0.0]])
    one = Evaluation("test", [], probabilities, np.array([0, 1, 1, 2]), ("a", "b", "c", "unseen"))
    assert one.missed_classes == ["c"]
    labels = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    several = Evaluation("test", [], probabilities, labels, ("a", "b", "c", "unseen"), thresholds=(0.5, 0.8, 0.1, 0.5))
    assert several.missed_classes == ["b"]
