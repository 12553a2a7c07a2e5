"""What a training minimises: the cross-entropy of classes, or of labels that hold or do not."""

from __future__ import annotations

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
        targets: class indices ``[N]`` or probabilities ``[N, K]``; of several labels an image, 0 to 1 ``[N, K]``.
        multilabel: each logit is that of a label which holds or does not; the mean is over images and labels.
        smoothing: mass that is given to the other classes; a label's target is pulled as far towards 0.5.
        class_weights: weight of each class, ``[K]``, 1 on average over the training images; None weighs all alike. Of
            single classes only. The sum is not divided by the batch's own weights: the batches of a step and of
            several processes, averaged, have the loss of one batch of them all.
    """
    if multilabel:
        smoothed = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, smoothed)
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    return F.cross_entropy(logits, targets, class_weights, label_smoothing=smoothing, reduction="sum") / len(logits)
