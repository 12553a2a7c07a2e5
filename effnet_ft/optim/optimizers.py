"""Optimisers and learning-rate schedules, by name. A new one is a function here and a line in its table.

Torch is imported inside the functions, so that a recipe is checked against the tables without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from effnet_ft.models.classifier import Classifier
    from effnet_ft.optim.settings import Optimization

Groups = list[dict[str, Any]]


def adamw(groups: Groups, lr: float, momentum: float, fused: bool) -> Optimizer:
    """Return AdamW with its usual decay rates; ``momentum`` is not used."""
    from torch.optim import AdamW

    return AdamW(groups, lr=lr, fused=fused)


def sgd(groups: Groups, lr: float, momentum: float, fused: bool) -> Optimizer:
    """Return SGD with Nesterov momentum, as Kornblith et al. 2019 (arXiv:1805.08974) fine-tune."""
    from torch.optim import SGD

    return SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused)


def rmsprop(groups: Groups, lr: float, momentum: float, fused: bool) -> Optimizer:
    """Return TensorFlow's RMSProp, decay 0.9 and epsilon 1e-3, as EfficientNet was trained; there is no fused one."""
    from effnet_ft.optim.rmsprop_tf import TensorFlowRMSprop

    return TensorFlowRMSprop(groups, lr=lr, decay=0.9, eps=1e-3, momentum=momentum)


OPTIMISERS: dict[str, Callable[[Groups, float, float, bool], Optimizer]] = {
    "adamw": adamw,
    "sgd": sgd,
    "rmsprop": rmsprop,
}

# Each maps (share that is over of the steps after the warm-up, drops since the phase began, factor of a drop) to the
# share of the highest learning rate. Drops count from the beginning, as in EfficientNet's own training (tensorflow/tpu,
# efficientnet/utils.py): a warm-up only stands before what the schedule is at by then.
SCHEDULES: dict[str, Callable[[float, float, float], float]] = {
    "cosine": lambda over, drops, drop_factor: 0.5 * (1 + math.cos(math.pi * over)),
    "step": lambda over, drops, drop_factor: drop_factor**drops,
    "constant": lambda over, drops, drop_factor: 1.0,
}


def learning_rate_factor(
    step: int,
    *,
    schedule: str,
    total_steps: int,
    warmup_steps: float = 0,
    drop_steps: float = 1,
    drop_factor: float = 1,
) -> float:
    """Return the share of the highest learning rate at an optimiser step.

    Args:
        step: from 0.
        schedule: a name in :data:`SCHEDULES`.
        total_steps: of the phase.
        warmup_steps: of the linear rise at its start.
        drop_steps: between two drops of ``step``, the first so many after the phase began.
        drop_factor: of each drop.
    """
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    over = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
    return SCHEDULES[schedule](over, step // drop_steps, drop_factor)


def schedule_factor(optim: Optimization, step: int, total_steps: int, steps_an_epoch: float) -> float:
    """Return the share of the highest learning rate at a step of a phase of ``total_steps``."""
    return learning_rate_factor(
        step,
        schedule=optim.schedule,
        total_steps=total_steps,
        warmup_steps=optim.warmup_epochs * steps_an_epoch,
        drop_steps=optim.step_epochs * steps_an_epoch,
        drop_factor=optim.step_factor,
    )


def build_optimizer(model: Classifier, optim: Optimization, fused: bool) -> Optimizer:
    """Return the optimiser over what ``model`` trains.

    Args:
        model: frozen as the phase wants it.
        optim: how it is optimised; its ``lr`` must be known.
        fused: take the fused kernels, where the optimiser has any.
    """
    assert optim.lr is not None
    decay = decay_rate(optim.weight_decay, optim.lr, optim.decay_unit)
    groups = parameter_groups(model, decay, optim.lr, optim.layer_decay)
    return OPTIMISERS[optim.optimizer](groups, optim.lr, optim.momentum, fused)


def parameter_groups(
    model: Classifier, weight_decay: float, lr: float | None = None, layer_decay: float = 1.0
) -> Groups:
    """Return the trainable parameters in groups: matrices and kernels decay, norms, biases and scalars do not.

    Args:
        model: frozen as the phase wants it.
        weight_decay: of matrices and kernels.
        lr: of the head; needed for a ``layer_decay`` other than 1.
        layer_decay: stage K of 0 to 8 learns at ``lr * layer_decay ** (9 - K)``; 1 makes no groups by stage.
    """
    if layer_decay == 1 or lr is None:
        return _decaying_apart(model.parameters(), weight_decay)
    depths = [*enumerate(reversed(model.stages), start=1), (0, model.head)]
    return [
        {**group, "lr": lr * layer_decay**depth}
        for depth, layers in depths
        for group in _decaying_apart(layers.parameters(), weight_decay)
    ]


def _decaying_apart(parameters: Iterable[Tensor], weight_decay: float) -> Groups:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def decay_rate(weight_decay: float, lr: float, unit: str) -> float:
    """Return the weight decay as an optimiser takes it: so much per unit of learning rate.

    Args:
        weight_decay: as the recipe gives it.
        lr: highest learning rate of the phase.
        unit: ``rate`` for a decay that is one already; ``step`` for what a step at the highest learning rate takes
            off, which then does not depend on it (Loshchilov and Hutter 2019, arXiv:1711.05101).
    """
    return weight_decay / lr if unit == "step" else weight_decay


def balanced_weights(labels: np.ndarray) -> Tensor:
    """Return a weight for each class, inverse to how often it occurs in ``labels``; an image's is 1 on average."""
    import torch

    counts = np.bincount(labels)
    return torch.from_numpy(len(labels) / (len(counts) * np.maximum(counts, 1))).float()


def averaging_weight(updates: Tensor, decay: float) -> Tensor:
    """Return the weight of the newest parameters in the moving average after ``updates`` updates, a scalar tensor.

    The decay warms up as ``(1 + n) / (10 + n)``, as in TensorFlow's ``ExponentialMovingAverage``: a short run is then
    not an average of its first steps.
    """
    return 1 - ((1 + updates) / (10 + updates)).clamp(max=decay)
