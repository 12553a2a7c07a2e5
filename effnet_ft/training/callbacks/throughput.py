"""Images a second, and the share of the time that is spent waiting for data."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class Throughput(Callback):
    """Measures training: images, seconds of its steps, and of those the seconds spent waiting for the next batch.

    Writing checkpoints and validating are no steps: they count as elapsed alone.

    One is carried through all phases; its totals travel in checkpoints.
    """

    state_key = "throughput"

    def __init__(self) -> None:
        self.epoch = dict.fromkeys(("images", "seconds", "waited"), 0.0)
        self.total = dict.fromkeys(("images", "seconds", "waited", "elapsed"), 0.0)
        self._mark = self._counted = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks; Lightning does not tell of an epoch's start where it resumes within one."""
        self._counted = self._mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of steps."""
        self.epoch = dict.fromkeys(self.epoch, 0.0)
        self._mark = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count what passed since the last batch as waiting."""
        self._add("waited", self._lap())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's images, those of the other processes included."""
        self._add("images", len(batch[1]) * trainer.world_size)
        self.mark_step_end()
        self._count_elapsed()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the epoch, its validation included."""
        self._count_elapsed()

    def mark_step_end(self) -> None:
        """Count what passed until now as the step's, not as waiting."""
        self._lap()

    def exclude(self) -> None:
        """Count what passed since the step ended neither as a step's nor as waiting."""
        self._mark = time.perf_counter()

    def speed(self, of: dict[str, float]) -> dict[str, float]:
        """Return images a second and the share of waiting, of :attr:`epoch` or :attr:`total`."""
        seconds = of["seconds"] or 1.0
        return {"images_per_second": of["images"] / seconds, "data_wait_fraction": of["waited"] / seconds}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts for a checkpoint."""
        return {"total": dict(self.total), "epoch": dict(self.epoch)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the counts of a checkpoint."""
        self.total.update(state_dict["total"])
        self.epoch.update(state_dict["epoch"])

    def _count_elapsed(self) -> None:
        now = time.perf_counter()
        self.total["elapsed"] += now - self._counted
        self._counted = now

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._mark = now - self._mark, now
        self._add("seconds", passed)
        return passed

    def _add(self, name: str, amount: float) -> None:
        self.epoch[name] += amount
        self.total[name] += amount
