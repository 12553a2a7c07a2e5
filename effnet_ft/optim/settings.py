"""How a phase is optimised and how its batches are mixed: what builders, the module and the LR finders are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Optimization:
    """How the weights move.

    Attributes:
        optimizer: a name in :data:`effnet_ft.optim.optimizers.OPTIMIZERS`.
        lr: highest learning rate; None until it is found.
        momentum: of ``sgd`` and ``rmsprop``.
        weight_decay: not applied to norms and biases.
        decay_unit: ``rate``, per unit of learning rate; ``step``, what a step at the highest learning rate takes off.
        schedule: a name in :data:`effnet_ft.optim.schedules.SCHEDULES`.
        warmup_epochs: of the linear rise at the start.
        step_epochs: between two drops of the schedule ``step``.
        step_factor: of each drop.
        layer_decay: a stage's learning rate is that of the next one times this; the head's is ``lr``.
        class_weights: ``balanced`` weighs the loss of rare classes higher.
        label_smoothing: mass given to the other classes.
        ema: decay of the averaged weights; None averages none.
        clip_norm: largest norm of the gradient; None clips none.
        accumulate: batches a step of the optimiser.
    """

    optimizer: str = "adamw"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_unit: Literal["rate", "step"] = "rate"
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    step_epochs: float = 2.4
    step_factor: float = 0.97
    layer_decay: float = 1.0
    class_weights: Literal["off", "balanced"] = "off"
    label_smoothing: float = 0.0
    ema: float | None = None
    clip_norm: float | None = None
    accumulate: int = 1


@dataclass(frozen=True)
class BatchMixing:
    """How the images of a batch are blended.

    Attributes:
        mixup: alpha of MixUp (Zhang et al. 2018, arXiv:1710.09412); 0 mixes nothing.
        cutmix: alpha of CutMix (Yun et al. 2019, arXiv:1905.04899); with both, each batch takes one of them.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether anything is blended."""
        return bool(self.mixup or self.cutmix)
