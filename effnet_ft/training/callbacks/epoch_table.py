"""``metrics.csv``: a row an epoch, which the log and Lightning's loggers get too."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from effnet_ft.models.variants import train_of
from effnet_ft.training.callbacks.throughput import Throughput
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


class EpochTable(Callback):
    """Writes a row an epoch to ``metrics.csv``, to the log and to Lightning's loggers.

    One is carried through all phases; its rows travel in checkpoints.

    Args:
        path: of ``metrics.csv``.
        throughput: measures the epochs; it stands before this one among the callbacks.
        phases: how many the run has.
    """

    state_key = "epoch_table"

    def __init__(self, path: Path, throughput: Throughput, phases: int) -> None:
        self.path = path
        self.throughput = throughput
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
            "train": train_of(pl_module.model.cut),
            "lr": pl_module.optim.lr,
            **{name: metrics[name] for name in self._columns if name in metrics},
            "seconds": self.throughput.epoch["seconds"],
            **self.throughput.speed(self.throughput.epoch),
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
