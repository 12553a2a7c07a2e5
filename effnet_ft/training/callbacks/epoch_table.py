"""``metrics.csv``: one row per epoch, also written to the log and to Lightning's loggers."""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
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
"""Columns of ``metrics.csv``. Epochs and phases count from 1, epochs over the whole run; multi-label runs have ``map``
instead of ``acc1``."""


@dataclass(eq=False)
class EpochTable(Callback):
    """Writes the epoch table. One instance serves all phases; its rows are saved in checkpoints."""

    state_key = "epoch_table"

    path: Path
    throughput: Throughput  # precedes this callback in the trainer's list
    phases: int  # how many the run has

    def __post_init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of the epoch, after its validation."""
        assert isinstance(pl_module, FineTuner)
        columns = [name.replace("acc1", pl_module.score) for name in COLUMNS]
        row: dict[str, Any] = {
            "epoch": len(self.rows) + 1,
            "phase": pl_module.phase + 1,
            "train": train_of(pl_module.model.cut),
            "lr": pl_module.optim.lr,
            **{name: float(value) for name, value in trainer.callback_metrics.items() if name in columns},
            "seconds": self.throughput.epoch["seconds"],
            **self.throughput.speed(self.throughput.epoch),
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write(columns)
            log.info("%s", self._line(row, trainer, pl_module.score))
        numbers = {name: value for name, value in row.items() if not isinstance(value, str)}
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=row["epoch"])

    def state_dict(self) -> dict[str, Any]:
        """Return the rows for a checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of a checkpoint."""
        self.rows = list(state_dict["rows"])

    def _write(self, columns: list[str]) -> None:
        with atomic_write(self.path, newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
                for row in self.rows
            )

    def _line(self, row: dict[str, Any], trainer: Trainer, score: str) -> str:
        label = " map" if score == "map" else ""
        return (
            f"phase {row['phase']}/{self.phases} {row['train']:<6}"
            f" epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {row['train/loss']:.3f}"
            f"  train{label} {row[f'train/{score}']:.1%}  val{label} {row[f'val/{score}']:.1%}"
            f"  {row['images_per_second']:.0f} images/s"
        )
