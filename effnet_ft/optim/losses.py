"""The training loss: cross-entropy of classes, or of each label by itself."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def classification_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    multilabel: bool = False,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of a batch, divided by its number of images.

    Args:
        logits: float32 ``[N, K]``.
        targets: class indices ``[N]`` or probabilities ``[N, K]``; if ``multilabel`` 0 to 1 ``[N, K]``.
        multilabel: use a sigmoid for each label, and the mean over images and labels.
        smoothing: probability mass given to the other classes; targets of labels are pulled towards 0.5.
        class_weights: ``[K]``, not for ``multilabel``: an image's loss is multiplied by the weight of its class. The
            sum is divided by the number of images, not by the weights, so that averaging over the batches of a step and
            over processes gives the loss of one large batch.
    """
    if multilabel:
        smoothed = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, smoothed)
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    return F.cross_entropy(logits, target_mass(targets, logits.shape[1], smoothing, class_weights))


def target_mass(targets: Tensor, classes: int, smoothing: float = 0.0, class_weights: Tensor | None = None) -> Tensor:
    """Return what the cross-entropy compares the logits with, float ``[N, K]``; a row sums to its image's weight.

    An image weighs as much as its own class does, its smoothed part included: weighing the smoothed mass by the classes
    it falls on, as torch does, would make the rarest class the best guess for every image.
    """
    mass = F.one_hot(targets, classes).float() if targets.ndim == 1 else targets
    if class_weights is not None:
        mass = mass * class_weights
    return mass * (1 - smoothing) + mass.sum(1, keepdim=True) * (smoothing / classes)


def balanced_weights(labels: np.ndarray) -> Tensor:
    """Return class weights ``[K]`` inverse to the class frequencies, with a mean of 1 over the images of ``labels``."""
    counts = np.bincount(labels)
    return torch.from_numpy(len(labels) / (len(counts) * np.maximum(counts, 1))).float()
