"""An exponential moving average of the weights."""

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from effnet_ft.optim.schedules import ema_update_weight


class WeightEMA(WeightAveraging):
    """Lightning's averaging callback as an exponential average, whose ``decay`` warms up, on the training device."""

    state_key = "weight_ema"

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
            if averaged[0].is_floating_point():
                steps = torch._foreach_sub(current, averaged)
                torch._foreach_mul_(steps, ema_update_weight(updates, decay))
                torch._foreach_add_(averaged, steps)
            else:
                torch._foreach_copy_(averaged, current)  # integer counts

        super().__init__(multi_avg_fn=average, use_buffers=True)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create the average on the training device; the module itself is still on the CPU."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # Read twice per step, which on a GPU would synchronise with it.
            self._average_model.n_averaged = torch.zeros_like(self._average_model.n_averaged, device="cpu")
