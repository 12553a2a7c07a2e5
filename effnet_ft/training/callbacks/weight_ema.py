"""An exponential moving average of the weights."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from effnet_ft.optim.schedules import ema_update_weight


class WeightEMA(WeightAveraging):
    """Lightning's averaging callback with an exponential average whose decay warms up, on the device that trains.

    Args:
        decay: of the average.
    """

    state_key = "weight_ema"

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
            if averaged[0].is_floating_point():
                steps = torch._foreach_sub(current, averaged)
                torch._foreach_mul_(steps, ema_update_weight(updates, decay))
                torch._foreach_add_(averaged, steps)
            else:
                torch._foreach_copy_(averaged, current)  # counts have no average

        super().__init__(multi_avg_fn=average, use_buffers=True)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the average where the weights will be: the module is still on the CPU now."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # It is asked for twice in every step, and a GPU would have to be waited for.
            self._average_model.n_averaged = torch.zeros_like(self._average_model.n_averaged, device="cpu")
