"""Optimisers, by name. To add one, write a function and a line in ``OPTIMIZERS``.

Torch is imported inside the functions, as recipes are checked against the table without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from effnet_ft.models.classifier import Classifier
    from effnet_ft.optim.settings import Optimization

Groups = list[dict[str, Any]]


def adamw(groups: Groups, lr: float, momentum: float, fused: bool) -> Optimizer:
    """Return AdamW with its usual betas; ``momentum`` is not used."""
    from torch.optim import AdamW

    return AdamW(groups, lr=lr, fused=fused)


def sgd(groups: Groups, lr: float, momentum: float, fused: bool) -> Optimizer:
    """Return SGD with Nesterov momentum, as Kornblith et al. 2019 (arXiv:1805.08974) fine-tune."""
    from torch.optim import SGD

    return SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused)


def rmsprop(groups: Groups, lr: float, momentum: float, fused: bool) -> Optimizer:
    """Return TensorFlow's RMSProp with decay 0.9 and epsilon 1e-3, as EfficientNet was trained; it is never fused."""
    from effnet_ft.optim.rmsprop_tf import TensorFlowRMSprop

    return TensorFlowRMSprop(groups, lr=lr, decay=0.9, eps=1e-3, momentum=momentum)


OPTIMIZERS: dict[str, Callable[[Groups, float, float, bool], Optimizer]] = {
    "adamw": adamw,
    "sgd": sgd,
    "rmsprop": rmsprop,
}


def build_optimizer(model: Classifier, optim: Optimization, fused: bool) -> Optimizer:
    """Return the optimiser of the parameters that ``model`` trains; ``optim`` must have an ``lr``."""
    assert optim.lr is not None
    decay = decay_rate(optim.weight_decay, optim.lr, optim.decay_unit)
    groups = parameter_groups(model, decay, optim.lr, optim.layer_decay)
    return OPTIMIZERS[optim.optimizer](groups, optim.lr, optim.momentum, fused)


def parameter_groups(
    model: Classifier, weight_decay: float, lr: float | None = None, layer_decay: float = 1.0
) -> Groups:
    """Return the trainable parameters in groups: weights with decay; norms, biases and scalars without.

    Args:
        model: frozen for the phase.
        weight_decay: of matrices and kernels.
        lr: of the head; needed for a ``layer_decay`` other than 1.
        layer_decay: stage K of 0 to 8 learns at ``lr * layer_decay ** (9 - K)``; 1 makes no groups by stage.
    """
    if layer_decay == 1 or lr is None:
        return _groups_by_decay(model.parameters(), weight_decay)
    depths = [*enumerate(reversed(model.stages), start=1), (0, model.head)]
    return [
        {**group, "lr": lr * layer_decay**depth}
        for depth, layers in depths
        for group in _groups_by_decay(layers.parameters(), weight_decay)
    ]


def _groups_by_decay(parameters: Iterable[Tensor], weight_decay: float) -> Groups:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def decay_rate(weight_decay: float, lr: float, unit: str) -> float:
    """Return the weight decay per unit of learning rate, as optimisers take it.

    Args:
        weight_decay: in ``unit``.
        lr: highest learning rate of the phase.
        unit: ``rate``, or ``step`` for the decay of a step at the highest learning rate, which then does not depend on
            ``lr`` (Loshchilov and Hutter 2019, arXiv:1711.05101).
    """
    return weight_decay / lr if unit == "step" else weight_decay
