"""Classification metrics, mostly torchmetrics'."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_average_precision,
    multiclass_accuracy,
    multiclass_f1_score,
)

ECE_BINS = 15  # equal-width bins of the expected calibration error


def classification_metrics(probabilities: np.ndarray, labels: np.ndarray, prefix: str) -> dict[str, float]:
    """Return accuracy, macro F1 and calibration error as fractions of 1.

    Args:
        probabilities: float ``[N, K]``, rows sum to 1.
        labels: class indices, ``[N]``.
        prefix: of each name, e.g. ``test`` for ``test/acc1``.

    Returns:
        ``acc1``; ``acc5`` with more than five classes; ``macro_f1``, over the classes among labels or predictions;
        ``ece``, see :func:`calibration_error`.
    """
    p, y = torch.from_numpy(np.asarray(probabilities)), torch.from_numpy(np.asarray(labels))
    classes = p.shape[1]
    values = {"acc1": multiclass_accuracy(p, y, classes, average="micro")}
    if classes > 5:
        values["acc5"] = multiclass_accuracy(p, y, classes, average="micro", top_k=5)
    values["macro_f1"] = multiclass_f1_score(p, y, classes, average="macro")
    return {
        **{f"{prefix}/{name}": float(value) for name, value in values.items()},
        f"{prefix}/ece": calibration_error(probabilities, labels),
    }


def multilabel_metrics(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: Sequence[float], classes: Sequence[str], prefix: str
) -> dict[str, float]:
    """Return mean average precision, macro F1 and each label's F1 as fractions of 1.

    Args:
        probabilities: float ``[N, K]``, of each label by itself.
        labels: 0 or 1, ``[N, K]``.
        thresholds: the probability from which each label is predicted, ``[K]``.
        classes: names of the labels.
        prefix: of each name, e.g. ``test`` for ``test/map``.

    Returns:
        ``map``, the mean over the labels that occur; ``macro_f1`` and each ``f1/LABEL``, over the labels that occur or
        are predicted, as others have no F1; ``ece``, see :func:`calibration_error`.
    """
    true, predicted = np.asarray(labels) > 0.5, np.asarray(probabilities) >= np.asarray(thresholds, np.float64)
    right, total = (true & predicted).sum(0), true.sum(0) + predicted.sum(0)
    scores = {name: 2 * r / n for name, r, n in zip(classes, right.tolist(), total.tolist(), strict=True) if n}
    precision = mean_average_precision(torch.from_numpy(np.asarray(probabilities)), torch.from_numpy(true))
    return {
        f"{prefix}/map": float(precision),
        f"{prefix}/macro_f1": sum(scores.values()) / max(1, len(scores)),
        f"{prefix}/ece": calibration_error(probabilities, labels),
        **{f"{prefix}/f1/{name}": score for name, score in scores.items()},
    }


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error in fifteen bins (Guo et al. 2017, arXiv:1706.04599).

    The last bin holds a probability of 1 too, which torchmetrics gives a sixteenth of its own.
    It is that of the most likely classes for class indices ``[N]``, of all labels for labels of 0 and 1 ``[N, K]``.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    confidence, right = (p.max(1), p.argmax(1) == y) if y.ndim == 1 else (p.ravel(), y.ravel() > 0.5)
    bins = np.clip(np.ceil(confidence * ECE_BINS) - 1, 0, ECE_BINS - 1).astype(int)
    gaps = np.bincount(bins, right - confidence, ECE_BINS)
    return float(np.abs(gaps).sum() / max(1, len(bins)))


def mean_average_precision(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of the average precision over the labels that occur, 0 if none does. Arguments are ``[N, K]``."""
    true = labels > 0.5
    scores = [
        binary_average_precision(probabilities[:, label], true[:, label].long(), validate_args=False)
        for label in true.any(0).nonzero().flatten().tolist()
    ]
    return torch.stack(scores).mean() if scores else probabilities.new_zeros(())


class MeanAveragePrecision(Metric):
    """:func:`mean_average_precision` over the batches of an epoch, of all processes."""

    full_state_update = False
    probabilities: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits and labels of 0 and 1, ``[N, K]``."""
        self.probabilities.append(logits.float().sigmoid())
        self.labels.append(labels > 0.5)

    def compute(self) -> Tensor:
        """Return the mean average precision of all batches."""
        probabilities, labels = (
            values if isinstance(values, Tensor) else torch.cat(values) for values in (self.probabilities, self.labels)
        )
        return mean_average_precision(probabilities, labels)


def best_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    """Return the threshold of the best F1 of each label, from probabilities and labels of 0 and 1, ``[N, K]``.

    It lies midway between the lowest probability above and the highest below; the highest of equally good ones; 0.5 for
    a label without images.
    """
    return tuple(
        _best_threshold(p.astype(np.float64), y > 0.5) if (y > 0.5).any() else 0.5
        for p, y in zip(np.asarray(probabilities).T, np.asarray(labels).T, strict=True)
    )


def _best_threshold(probabilities: np.ndarray, true: np.ndarray) -> float:
    order = np.argsort(-probabilities, kind="stable")
    sorted_p, right = probabilities[order], np.cumsum(true[order])
    scores = 2 * right / (np.arange(1, len(order) + 1) + true.sum())
    # No threshold separates images of the same probability: only after the last of them.
    lower = np.append(sorted_p[1:], 0.0)
    scores[np.append(sorted_p[:-1] == sorted_p[1:], False)] = -1
    last = int(scores.argmax())
    return float((sorted_p[last] + lower[last]) / 2)
