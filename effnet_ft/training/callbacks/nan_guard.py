"""A loss or weights that are no longer numbers end a training before a checkpoint is written of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from effnet_ft.distributed import collectives
from effnet_ft.errors import DivergedError, WeightsError
from effnet_ft.models.variants import train_of
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.module import FineTuner
from effnet_ft.utils.text import listing

LOOK_STEPS = 50
"""Between two looks at the losses, for each of which the program waits for the device and for the other processes."""


class NaNGuard(Callback):
    """Ends the training where a loss is infinite or no number, and keeps weights that are so out of every checkpoint.

    The losses stay on the device until they are looked at: every :data:`LOOK_STEPS` steps, before each validation and
    before each checkpoint; on the CPU, where nothing is waited for, after every step.

    Args:
        run: the run folder.
        paths: of the training images, in the order of the data set.
    """

    def __init__(self, run: Run, paths: Sequence[str]) -> None:
        self.run = run
        self.paths = paths
        self._rate = 0.0
        self._unseen: list[tuple[int, float, Tensor]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate of the step, which the schedule has changed when the step is over."""
        self._rate = max(group["lr"] for optimiser in trainer.optimizers for group in optimiser.param_groups)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss, and look at those kept where it is time.

        Raises:
            DivergedError: naming the step, its images and its learning rate.
        """
        self._unseen.append((batch_idx, self._rate, outputs["loss"].detach()))
        every = 1 if pl_module.device.type == "cpu" and trainer.world_size == 1 else LOOK_STEPS
        if trainer.is_last_batch or (batch_idx + 1) % every == 0:
            self._look(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let no checkpoint be written of losses or weights that are not finite.

        Raises:
            DivergedError: where a step has ruined them.
            WeightsError: where the phase begins with such weights.
        """
        self._look(trainer, pl_module)
        broken = nonfinite_tensors(checkpoint["state_dict"])
        names = ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else "")
        if trainer.global_step == 0:
            text = f"the weights that the training begins with are not finite ({names}): take others"
            collectives.raise_on_all_ranks(WeightsError(text) if broken else None)
        else:
            text = f"the weights are no longer finite ({names}) {self._place(trainer, pl_module, self._rate)}"
            collectives.raise_on_all_ranks(DivergedError(text) if broken else None)

    def _look(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        unseen, self._unseen = self._unseen, []
        losses = torch.stack([loss for *_, loss in unseen]).tolist() if unseen else []
        ruined = next((at for at, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if ruined is None:
            return collectives.raise_on_all_ranks(None)
        batch, rate, _ = unseen[ruined]
        images = listing([self.paths[index] for index in images_of(trainer.train_dataloader, batch)])
        text = f"the loss is {losses[ruined]} {self._place(trainer, module, rate, batch)}\nThe images of the step:\n"
        return collectives.raise_on_all_ranks(DivergedError(text + images))

    def _place(self, trainer: pl.Trainer, module: pl.LightningModule, rate: float, batch: int | None = None) -> str:
        assert isinstance(module, FineTuner)
        step = "" if batch is None else f", step {batch + 1} of {trainer.num_training_batches:.0f}"
        return (
            f"in phase {module.phase + 1} ({train_of(module.model.cut)}), epoch {trainer.current_epoch + 1}{step}, "
            f"at a learning rate of {rate:.3g}: lower phases[{module.phase}].lr, or set optim.clip_norm=1. "
            f"The checkpoints of before are kept in {self.run.checkpoints}"
        )


def nonfinite_tensors(state: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors in ``state`` that hold a value which is infinite or no number."""
    floating = {name: value for name, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}
    if not floating:
        return []
    # One answer of the device for all of them.
    finite = torch.stack([value.isfinite().all() for value in floating.values()]).tolist()
    return [name for name, good in zip(floating, finite, strict=True) if not good]


def images_of(loader: Any, batch: int) -> list[int]:
    """Return the indices of the images in a batch of the epoch that ``loader``, a DataLoader, is in.

    The order of an epoch follows from its number, so that batches need not carry their images' names.
    """
    stored = loader.batch_sampler is None
    batches = loader.sampler if stored else loader.batch_sampler
    rest = list(batches)  # the last of the epoch, where it was resumed within
    items = rest[batch - len(batches)]
    return [item % len(loader.dataset) for item in items]
