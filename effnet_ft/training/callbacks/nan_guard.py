"""Stops a training whose loss or weights are NaN or infinite, before they reach a checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from effnet_ft.distributed import collectives
from effnet_ft.errors import DivergedError, WeightsError
from effnet_ft.models.variants import train_of
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.module import FineTuner
from effnet_ft.utils.text import listing

CHECK_STEPS = 50  # between two checks of the losses, each of which synchronises with the device and the other ranks


@dataclass(eq=False)
class NaNGuard(Callback):
    """Raises a :class:`DivergedError` that names the step, its images and its learning rate.

    Losses stay on the device until they are checked: every :data:`CHECK_STEPS` steps, before each validation and before
    each checkpoint; on a single CPU process, where that costs nothing, after every step.
    """

    run: Run
    paths: Sequence[str]  # of the training images, by index

    def __post_init__(self) -> None:
        self._lr = 0.0
        self._unchecked: list[tuple[int, float, Tensor]] = []  # batch index, learning rate, loss

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the learning rate, which the schedule changes before the step ends."""
        self._lr = max(group["lr"] for optimiser in trainer.optimizers for group in optimiser.param_groups)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss, and check those recorded if it is time."""
        self._unchecked.append((batch_idx, self._lr, outputs["loss"].detach()))
        every = 1 if pl_module.device.type == "cpu" and trainer.world_size == 1 else CHECK_STEPS
        if trainer.is_last_batch or (batch_idx + 1) % every == 0:
            self._check(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to write non-finite weights; raise a :class:`WeightsError` if they were so from the start."""
        self._check(trainer, pl_module)
        broken = nonfinite_tensors(checkpoint["state_dict"])
        names = ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else "")
        error: WeightsError | DivergedError | None = None
        if broken and trainer.global_step == 0:
            error = WeightsError(f"the initial weights are not finite ({names}): use other weights")
        elif broken:
            error = DivergedError(
                f"the weights are no longer finite ({names}) {self._where(trainer, pl_module, self._lr)}"
            )
        collectives.raise_on_all_ranks(error)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        unchecked, self._unchecked = self._unchecked, []
        losses = torch.stack([loss for *_, loss in unchecked]).tolist() if unchecked else []
        error = None
        if bad := [number for number, loss in enumerate(losses) if not math.isfinite(loss)]:
            batch, lr, _ = unchecked[bad[0]]
            images = listing([self.paths[index] for index in images_of(trainer.train_dataloader, batch)])
            where = self._where(trainer, module, lr, f", step {batch + 1} of {trainer.num_training_batches:.0f}")
            error = DivergedError(f"the loss is {losses[bad[0]]} {where}\nThe images of the step:\n{images}")
        collectives.raise_on_all_ranks(error)

    def _where(self, trainer: Trainer, module: LightningModule, lr: float, step: str = "") -> str:
        assert isinstance(module, FineTuner)
        return (
            f"in phase {module.phase + 1} ({train_of(module.model.cut)}), epoch {trainer.current_epoch + 1}{step}, "
            f"at a learning rate of {lr:.3g}: lower phases[{module.phase}].lr, or set optim.clip_norm=1. "
            f"Earlier checkpoints are in {self.run.checkpoints}"
        )


def nonfinite_tensors(state: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors in ``state`` with a NaN or infinite value."""
    floating = {name: value for name, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}
    if not floating:
        return []
    finite = torch.stack([value.isfinite().all() for value in floating.values()]).tolist()  # one device sync for all
    return [name for name, good in zip(floating, finite, strict=True) if not good]


def images_of(loader: Any, batch: int) -> list[int]:
    """Return the indices of the images in batch number ``batch`` of the current epoch of ``loader``, a DataLoader.

    An epoch's order depends on its number alone, so that batches need not carry their images' names.
    """
    batches = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    remaining = list(batches)  # fewer than the epoch's if it was resumed partway
    return [item % len(loader.dataset) for item in remaining[batch - len(batches)]]
