"""Learning-rate schedules, by name. To add one, write a line in ``SCHEDULES``. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from effnet_ft.optim.settings import Optimization

# From (progress after the warm-up, 0 to 1; drops since the phase began; factor of a drop) to the share of the highest
# learning rate. Drops count from the start, as in EfficientNet's own training (tensorflow/tpu, efficientnet/utils.py):
# a warm-up only replaces the first values.
SCHEDULES: dict[str, Callable[[float, float, float], float]] = {
    "cosine": lambda progress, drops, drop_factor: 0.5 * (1 + math.cos(math.pi * progress)),
    "step": lambda progress, drops, drop_factor: drop_factor**drops,
    "constant": lambda progress, drops, drop_factor: 1.0,
}


def schedule_factor(optim: Optimization, step: int, total_steps: int, steps_per_epoch: float) -> float:
    """Return the share of the highest learning rate at optimiser step ``step``, from 0, of a phase."""
    warmup_steps = optim.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    progress = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
    return SCHEDULES[optim.schedule](progress, step // (optim.step_epochs * steps_per_epoch), optim.step_factor)


def ema_update_weight(updates: Tensor, decay: float) -> Tensor:
    """Return the weight of the newest parameters in the moving average after ``updates`` updates, a scalar tensor.

    The decay warms up as ``(1 + n) / (10 + n)``, as in TensorFlow's ``ExponentialMovingAverage``: else the average of a
    short run would be one of its first steps.
    """
    return 1 - ((1 + updates) / (10 + updates)).clamp(max=decay)
