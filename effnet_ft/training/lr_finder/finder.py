"""Finds the learning rate of a phase: by a grid for a head on its stored features, by a range test for any other."""

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.distributed import collectives
from effnet_ft.recipe.plan import PhasePlan
from effnet_ft.training.lr_finder.head_grid import search_head_grid
from effnet_ft.training.lr_finder.range_test import range_test
from effnet_ft.training.module import FineTuner
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.text import counted


def find_lr(
    phase: PhasePlan,
    module: FineTuner,
    data: ActivationDataModule | pl.LightningDataModule,
    device: torch.device,
    precision: str,
    folder: Path,
) -> tuple[PhasePlan, str]:
    """Return ``phase`` with its learning rate, and for a head its weight decay, and how they were found.

    A grid is searched by the first process for all. ``module`` trains as it will in the phase, but for the learning
    rate, and is left as it was. The search is written to ``lr_search-N.csv`` in ``folder``.
    """
    path = folder / f"lr_search-{phase.number}.csv"
    if isinstance(data, ActivationDataModule) and phase.search == "grid of heads":
        trials = search_head_grid(data.alone(), module, phase, device) if collectives.rank() == 0 else []
        trials = collectives.broadcast(trials)
        score = "val/map" if module.model.multilabel else "val/acc1"
        rows = [(t.lr, t.weight_decay, f"{t.accuracy:.6f}", f"{t.loss:.6f}") for t in trials]
        _write(path, ("lr", "weight_decay", score, "val/loss"), rows)
        best = trials[0]
        decay = best.weight_decay * (best.lr if phase.optim.decay_unit == "step" else 1)
        how = (
            f"learning rate {best.lr:.2g}, weight decay {best.weight_decay:.2g}: the best of {len(trials)} settings on "
            f"the validation images ({100 * best.accuracy:.1f}%)"
        )
        return replace(phase, optim=replace(phase.optim, lr=best.lr, weight_decay=decay)), how
    lr, curve = collectives.broadcast(range_test(module, data.train_dataloader(), device, precision))
    _write(path, ("lr", "train/loss"), [(lr, f"{loss:.6f}") for lr, loss in curve])
    steps = counted(len(curve), "step")
    how = f"learning rate {lr:.2g}: half of the rate at which the loss rose in a range test of {steps}"
    return replace(phase, optim=replace(phase.optim, lr=lr)), how


@rank_zero_only
def _write(path: Path, head: tuple[str, ...], rows: Iterable[tuple[float | str, ...]]) -> None:
    with atomic_write(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows([value if isinstance(value, str) else f"{value:.6g}" for value in row] for row in rows)
