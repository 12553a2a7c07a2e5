"""What watches a training: the epoch table, the progress bar, the averaged weights."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar, WeightAveraging
from torch import Tensor

from effnet_ft.optim.optimizers import averaging_weight
from effnet_ft.training.module import FineTuner
from effnet_ft.utils.atomic_files import atomic_write

log = logging.getLogger(__name__)

COLUMNS = (
    "epoch", "phase", "train", "lr", "train/loss", "train/acc1", "val/loss", "val/acc1",
    "seconds", "images_per_second", "data_wait_fraction",
)  # fmt: skip
"""The columns of ``metrics.csv``; epochs and phases count from 1, epochs over the whole run.

Where an image has several labels, ``map`` stands for ``acc1``.
"""


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


class EpochTable(Callback):
    """Writes a row an epoch to ``metrics.csv``, to the log and to Lightning's loggers.

    One is carried through all phases; its rows travel in checkpoints.

    Args:
        path: of ``metrics.csv``.
        stopwatch: measures the epochs; it stands before this one among the callbacks.
        phases: how many the run has.
    """

    state_key = "epoch_table"

    def __init__(self, path: Path, stopwatch: Throughput, phases: int) -> None:
        self.path = path
        self.stopwatch = stopwatch
        self.phases = phases
        self.rows: list[dict[str, Any]] = []
        self._columns: tuple[str, ...] = COLUMNS

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row of the epoch that ended, after its validation."""
        assert isinstance(pl_module, FineTuner)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._columns = tuple(name.replace("acc1", pl_module.score) for name in COLUMNS)
        row: dict[str, Any] = {
            "epoch": len(self.rows) + 1,
            "phase": pl_module.phase + 1,
            "train": train_word(pl_module),
            "lr": pl_module.lr,
            **{name: metrics[name] for name in self._columns if name in metrics},
            "seconds": self.stopwatch.epoch["seconds"],
            **self.stopwatch.speed(self.stopwatch.epoch),
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write()
            log.info("%s", self._line(row, trainer, pl_module.score))
        numbers = {name: value for name, value in row.items() if not isinstance(value, str)}
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=row["epoch"])

    def state_dict(self) -> dict[str, Any]:
        """Return the rows for a checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of a checkpoint."""
        self.rows = list(state_dict["rows"])

    def _write(self) -> None:
        with atomic_write(self.path, newline="") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
                for row in self.rows
            )

    def _line(self, row: dict[str, Any], trainer: pl.Trainer, score: str) -> str:
        word = " map" if score == "map" else ""
        scores = f"train{word} {row[f'train/{score}']:.1%}  val{word} {row[f'val/{score}']:.1%}"
        return (
            f"phase {row['phase']}/{self.phases} {row['train']:<6}"
            f" epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            f"  loss {row['train/loss']:.3f}  {scores}"
            f"  {row['images_per_second']:.0f} images/s"
        )


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the phase, loss, accuracy, images a second and the share of waiting; for a terminal only.

    Args:
        stopwatch: measures the epochs.
        phases: how many the run has.
    """

    def __init__(self, stopwatch: Throughput, phases: int) -> None:
        super().__init__(refresh_rate=5)
        self.stopwatch = stopwatch
        self.phases = phases

    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Begin the bar of an epoch that is resumed within, whose start Lightning does not tell of."""
        super().on_train_start(trainer, *args)
        if trainer.fit_loop.restarted_mid_epoch:
            self.on_train_epoch_start(trainer, *args)

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Name phase and epoch."""
        super().on_train_epoch_start(trainer, *args)
        module = trainer.lightning_module
        assert isinstance(module, FineTuner)
        self.train_progress_bar.set_description(
            f"phase {module.phase + 1}/{self.phases} {train_word(module)}"
            f" epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        )

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what stands at the end of the bar."""
        assert isinstance(pl_module, FineTuner)
        shown = {name: f"{float(value):.3f}" for name, value in pl_module.recent.items()}
        speed = self.stopwatch.speed(self.stopwatch.epoch)
        return {
            **shown,
            "images/s": f"{speed['images_per_second']:.0f}",
            "data wait": f"{speed['data_wait_fraction']:.0%}",
        }


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
                torch._foreach_mul_(steps, averaging_weight(updates, decay))
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


def train_word(module: FineTuner) -> str:
    """Return what ``module`` trains, in the recipe's words."""
    cut, stages = module.model.cut, len(module.model.stages)
    return {0: "all", stages: "head"}.get(cut, f"stage{cut}")
