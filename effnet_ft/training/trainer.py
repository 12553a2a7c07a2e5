"""Lightning's Trainer for a phase: devices, precision, steps and callbacks as planned."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from effnet_ft.errors import RecipeError
from effnet_ft.recipe.plan import PhasePlan, TrainerPlan
from effnet_ft.training.callbacks.progress import ProgressBar
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.training.callbacks.weight_ema import WeightEMA


def optional_callbacks(phase: PhasePlan, throughput: Throughput, phases: int) -> list[Callback]:
    """Return a progress bar for a terminal, and averaged weights and early stopping if the phase has them."""
    callbacks: list[Callback] = []
    if sys.stdout.isatty():
        callbacks.append(ProgressBar(throughput, phases))
    if phase.optim.ema is not None:
        callbacks.append(WeightEMA(phase.optim.ema))
    if phase.patience is not None:
        callbacks.append(EarlyStopping("val/selection", mode="max", patience=phase.patience))
    return callbacks


def build_trainer(
    plan: TrainerPlan,
    phase: PhasePlan | None = None,
    folder: Path | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> pl.Trainer:
    """Return Lightning's Trainer for a phase; without one, a Trainer for its strategy, which connects the processes.

    A :class:`RecipeError` is raised if the settings do not fit the machine.
    """
    # Lightning's own requeueing of SLURM jobs resumes from a checkpoint without our phases.
    slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    try:
        trainer = pl.Trainer(
            accelerator=plan.accelerator,
            devices=plan.devices,
            num_nodes=plan.num_nodes,
            strategy="auto" if plan.strategy == "single device" else plan.strategy,
            precision=plan.precision,  # type: ignore[arg-type]
            max_epochs=phase.epochs if phase else None,
            accumulate_grad_batches=phase.optim.accumulate if phase else 1,
            gradient_clip_val=phase.optim.clip_norm if phase else None,
            default_root_dir=folder,
            callbacks=list(callbacks),
            logger=list(loggers),
            enable_checkpointing=phase is not None,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            plugins=SLURMEnvironment(auto_requeue=False) if slurm else None,
            use_distributed_sampler=False,  # DistributedBatchSampler divides the images itself
        )
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
        raise RecipeError(f"the trainer settings do not fit this machine: {error}") from error
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._timeout = timedelta(minutes=plan.timeout_minutes)  # no argument for a strategy given by name
    return trainer
