"""The numbers that a classifier is judged by, from torchmetrics."""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)


def classification_metrics(probabilities: np.ndarray, labels: np.ndarray, prefix: str) -> dict[str, float]:
    """Return accuracy, macro F1 and calibration error as fractions of 1.

    Args:
        probabilities: float ``[N, K]``, rows sum to 1.
        labels: class indices, ``[N]``.
        prefix: put before each name, e.g. ``test`` for ``test/acc1``.

    Returns:
        ``acc1``; ``acc5`` where there are more than five classes; ``macro_f1``, over the classes that occur among
        labels or predictions; ``ece``, the expected calibration error in fifteen bins (Guo et al. 2017,
        arXiv:1706.04599).
    """
    p, y = torch.from_numpy(np.asarray(probabilities)), torch.from_numpy(np.asarray(labels))
    classes = p.shape[1]
    values = {"acc1": multiclass_accuracy(p, y, classes, average="micro")}
    if classes > 5:
        values["acc5"] = multiclass_accuracy(p, y, classes, average="micro", top_k=5)
    values["macro_f1"] = multiclass_f1_score(p, y, classes, average="macro")
    values["ece"] = multiclass_calibration_error(p, y, classes, n_bins=15)
    return {f"{prefix}/{name}": float(value) for name, value in values.items()}
