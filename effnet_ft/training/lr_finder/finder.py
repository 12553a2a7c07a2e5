"""Finds the learning rate of a phase: by a grid for a head on its stored features, by a range test for any other."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.distributed import collectives
from effnet_ft.models.classifier import Classifier
from effnet_ft.recipe.plan import PhasePlan
from effnet_ft.training.lr_finder.head_grid import Trial, search_head_grid
from effnet_ft.training.lr_finder.range_test import range_test
from effnet_ft.utils.atomic_files import atomic_write


def find_lr(
    phase: PhasePlan,
    model: Classifier,
    data: ActivationDataModule | pl.LightningDataModule,
    device: torch.device,
    precision: str,
    folder: Path,
) -> tuple[PhasePlan, str]:
    """Return ``phase`` with its learning rate, and for a head its weight decay, and how they were found.

    A grid is searched by the first process for all.

    Args:
        phase: what is trained.
        model: frozen and cut as the phase wants it; it is left as it was.
        data: the phase's batches.
        device: where it is computed.
        precision: of what is computed.
        folder: the search is written to ``lr_search-N.csv`` there.
    """
    path = folder / f"lr_search-{phase.number}.csv"
    stored = isinstance(data, ActivationDataModule)
    if isinstance(data, ActivationDataModule) and phase.search == "grid of heads":
        features, classes = model.variant.features, len(model.classes)
        main = collectives.rank() == 0
        trials = search_head_grid(data.alone(), features, classes, phase, device) if main else []
        trials = collectives.broadcast(trials)
        rank_zero_only(_write_trials)(trials, path, "val/map" if model.multilabel else "val/acc1")
        best = trials[0]
        decay = best.weight_decay * (best.lr if phase.optim.decay_unit == "step" else 1)
        how = (
            f"learning rate {best.lr:.2g}, weight decay {best.weight_decay:.2g}: the best of {len(trials)} settings on "
            f"the validation images ({100 * best.accuracy:.1f}%)"
        )
        return replace(phase, optim=replace(phase.optim, lr=best.lr, weight_decay=decay)), how
    lr, curve = collectives.broadcast(range_test(model, data.train_dataloader(), stored, phase, device, precision))
    rank_zero_only(_write_curve)(curve, path)
    how = f"learning rate {lr:.2g}: half of the rate at which the loss rose in a range test of {len(curve)} steps"
    return replace(phase, optim=replace(phase.optim, lr=lr)), how


def _write_trials(trials: list[Trial], path: Path, score: str) -> None:
    """Write the grid as CSV, the best first."""
    rows = [
        (f"{trial.lr:.6g}", f"{trial.weight_decay:.6g}", f"{trial.accuracy:.6f}", f"{trial.loss:.6f}")
        for trial in trials
    ]
    _write(path, ("lr", "weight_decay", score, "val/loss"), rows)


def _write_curve(curve: list[tuple[float, float]], path: Path) -> None:
    """Write a range test's curve as CSV."""
    _write(path, ("lr", "train/loss"), [(f"{lr:.6g}", f"{loss:.6f}") for lr, loss in curve])


def _write(path: Path, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with atomic_write(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
