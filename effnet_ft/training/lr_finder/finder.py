"""Chooses the learning rate of a phase: by a grid for a head on its stored features, by a range test for any other."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.distributed import collectives
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import STAGES
from effnet_ft.planning.phases import PhasePlan
from effnet_ft.training.lr_finder.head_grid import Trial, search_head_grid
from effnet_ft.training.lr_finder.range_test import range_test
from effnet_ft.utils.atomic_files import atomic_write

log = logging.getLogger(__name__)


def find_lr(
    plan: PhasePlan, model: Classifier, data: pl.LightningDataModule, device: torch.device, folder: Path
) -> PhasePlan:
    """Return ``plan`` with its learning rate chosen, and for a head its weight decay; the search goes into ``folder``.

    A linear head on stored features is searched on the grid, by the first process for all; anything else takes a range
    test.
    """
    path = folder / f"lr_search-{plan.index + 1}.csv"
    stored = isinstance(data, ActivationDataModule)
    if isinstance(data, ActivationDataModule) and plan.cut == STAGES and plan.model.head == "linear":
        features, classes = model.variant.features, len(model.classes)
        main = collectives.rank() == 0
        trials = collectives.broadcast(search_head_grid(data.alone(), features, classes, plan, device) if main else [])
        rank_zero_only(_write_trials)(trials, path, "val/map" if model.multilabel else "val/acc1")
        best = trials[0]
        log.info(
            "learning rate %.2g, weight decay %.2g: the best of %d settings on the validation images (%.1f%%)",
            *(best.lr, best.weight_decay, len(trials), 100 * best.accuracy),
        )
        decay = best.weight_decay * (best.lr if plan.optim.decay_unit == "step" else 1)
        return replace(plan, lr=best.lr, optim=plan.optim.with_values(weight_decay=decay))
    lr, curve = collectives.broadcast(range_test(model, data.train_dataloader(), stored, plan, device))
    rank_zero_only(_write_curve)(curve, path)
    log.info("learning rate %.2g: half of the rate at which the loss rose in a range test of %d steps", lr, len(curve))
    return replace(plan, lr=lr)


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
