"""How a phase is optimised and how its batches are mixed: what builders, the module and the LR finders are given."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Optimization:
    """How the weights move."""

    optimizer: str = "adamw"  # a name in optim.optimizers.OPTIMIZERS
    lr: float | None = None  # highest learning rate; None until it is found
    momentum: float = 0.9  # of `sgd` and `rmsprop`
    weight_decay: float = 1e-4  # not applied to norms and biases
    decay_unit: Literal["rate", "step"] = "rate"  # per unit of learning rate, or per step at the highest one
    schedule: str = "cosine"  # a name in optim.schedules.SCHEDULES
    warmup_epochs: float = 0.0  # of the linear rise at the start, epochs
    step_epochs: float = 2.4  # between two drops of the schedule `step`, epochs
    step_factor: float = 0.97  # of each drop
    layer_decay: float = 1.0  # a stage's learning rate is that of the next one times this; the head's is `lr`
    class_weights: Literal["off", "balanced"] = "off"  # `balanced` weights the loss of rare classes higher
    label_smoothing: float = 0.0  # probability mass given to the other classes
    ema: float | None = None  # decay of the averaged weights; None for no average
    clip_norm: float | None = None  # largest norm of the gradient; None for no clipping
    accumulate: int = 1  # batches per optimiser step


@dataclass(frozen=True)
class BatchMixing:
    """How the images of a batch are blended."""

    mixup: float = 0.0  # alpha of MixUp (Zhang et al. 2018, arXiv:1710.09412); 0 mixes nothing
    cutmix: float = 0.0  # alpha of CutMix (Yun et al. 2019, arXiv:1905.04899); with both, each batch takes one of them

    @property
    def mixes(self) -> bool:
        """Whether anything is blended."""
        return bool(self.mixup or self.cutmix)
