"""Lightning's Trainer for a phase: devices, precision, steps and callbacks, as the plan says."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from effnet_ft.errors import RecipeError
from effnet_ft.recipe.plan import PhasePlan, TrainerPlan
from effnet_ft.training.callbacks.progress import ProgressBar
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.training.callbacks.weight_ema import WeightEMA


def optional_callbacks(phase: PhasePlan, throughput: Throughput, phases: int) -> list[Callback]:
    """Return what the terminal and the phase ask for: progress bar, averaged weights, early stopping."""
    callbacks: list[Callback] = []
    if sys.stdout.isatty():
        callbacks.append(ProgressBar(throughput, phases))
    if phase.optim.ema is not None:
        callbacks.append(WeightEMA(phase.optim.ema))
    if phase.patience is not None:
        callbacks.append(EarlyStopping("val/selection", mode="max", patience=phase.patience))
    return callbacks


def build_strategy(plan: TrainerPlan) -> Strategy:
    """Return Lightning's strategy, by which the processes of a run find each other.

    Raises:
        RecipeError: where the settings do not fit the machine.
    """
    return _trainer(plan).strategy


def build_trainer(
    plan: TrainerPlan, phase: PhasePlan, folder: Path, callbacks: list[Callback], loggers: list[Logger]
) -> pl.Trainer:
    """Return Lightning's Trainer for a phase.

    Args:
        plan: where it runs.
        phase: what it trains.
        folder: of the run.
        callbacks: of the phase.
        loggers: of the run.

    Raises:
        RecipeError: where the settings do not fit the machine.
    """
    return _trainer(
        plan,
        max_epochs=phase.epochs,
        accumulate_grad_batches=phase.optim.accumulate,
        gradient_clip_val=phase.optim.clip_norm,
        callbacks=callbacks,
        logger=loggers,
        default_root_dir=folder,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
    )


def _trainer(plan: TrainerPlan, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False} if not settings else {}
    try:
        trainer = pl.Trainer(
            accelerator=plan.accelerator,
            devices=plan.devices,
            num_nodes=plan.num_nodes,
            strategy="auto" if plan.strategy == "single device" else plan.strategy,
            precision=plan.precision,  # type: ignore[arg-type]
            enable_model_summary=False,
            num_sanity_val_steps=0,
            plugins=_cluster(),
            use_distributed_sampler=False,  # DistributedBatchSampler divides the images itself
            **{**quiet, **settings},
        )
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
        raise RecipeError(f"the trainer settings do not fit this machine: {error}") from error
    if isinstance(trainer.strategy, DDPStrategy):
        # Lightning takes it with a strategy, not with the name of one.
        trainer.strategy._timeout = timedelta(minutes=plan.timeout_minutes)
    return trainer


def _cluster() -> SLURMEnvironment | None:
    """Return what keeps Lightning from requeueing a SLURM job itself, from a checkpoint that knows of no phases."""
    launched = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return SLURMEnvironment(auto_requeue=False) if launched else None
