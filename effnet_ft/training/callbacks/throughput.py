"""Images per second, and the share of time spent waiting for data."""

import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback


class Throughput(Callback):
    """Counts images, the seconds of training steps and, of those, the seconds spent waiting for the next batch.

    Checkpoints and validation count as ``elapsed`` only. One instance serves all phases; its totals are saved in
    checkpoints.
    """

    state_key = "throughput"

    def __init__(self) -> None:
        self.epoch = dict.fromkeys(("images", "seconds", "waited"), 0.0)
        self.total = dict.fromkeys(("images", "seconds", "waited", "elapsed"), 0.0)
        self._mark = self._counted = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks, also of an epoch that is resumed partway, for which there is no epoch-start hook."""
        self._counted = self._mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the epoch's counts."""
        self.epoch = dict.fromkeys(self.epoch, 0.0)
        self.exclude()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the time since the last batch as waiting."""
        self._add("waited", self.lap())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's images on all ranks."""
        self._add("images", len(batch[1]) * trainer.world_size)
        self.lap()
        self._count_elapsed()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the time of the validation."""
        self._count_elapsed()

    def lap(self) -> float:
        """Add the time since the last lap to the steps' seconds and return it."""
        before, self._mark = self._mark, time.perf_counter()
        self._add("seconds", self._mark - before)
        return self._mark - before

    def exclude(self) -> None:
        """Leave the time since the last lap out of the steps' seconds."""
        self._mark = time.perf_counter()

    def speed(self, of: dict[str, float]) -> dict[str, float]:
        """Return images per second and the share of waiting, of :attr:`epoch` or :attr:`total`."""
        seconds = of["seconds"] or 1.0
        return {"images_per_second": of["images"] / seconds, "data_wait_fraction": of["waited"] / seconds}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts for a checkpoint."""
        return {"total": dict(self.total), "epoch": dict(self.epoch)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts of a checkpoint."""
        self.total.update(state_dict["total"])
        self.epoch.update(state_dict["epoch"])

    def _count_elapsed(self) -> None:
        before, self._counted = self._counted, time.perf_counter()
        self.total["elapsed"] += self._counted - before

    def _add(self, name: str, amount: float) -> None:
        self.epoch[name] += amount
        self.total[name] += amount
