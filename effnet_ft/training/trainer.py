"""Lightning's Trainer for a phase: devices, precision, checkpoints and callbacks, as the recipe says."""

from __future__ import annotations

import shutil
import sys
from datetime import timedelta

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from effnet_ft.errors import RecipeError
from effnet_ft.planning.phases import PhasePlan
from effnet_ft.recipe import TrainerSettings
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.callbacks.epochs import ProgressBar, Throughput, WeightEMA
from effnet_ft.training.consistency import resolve_processes

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""The type that matrix products are computed in, by ``trainer.precision``; others compute in the weights' own."""


def resolve_devices(trainer: TrainerSettings) -> None:
    """Replace in place the ``auto`` that the machine decides: accelerator, devices, precision."""
    gpu = torch.cuda.is_available() and trainer.accelerator in ("auto", "gpu", "cuda")
    if trainer.accelerator == "auto":
        trainer.accelerator = "gpu" if gpu else "mps" if torch.backends.mps.is_available() else "cpu"
    resolve_processes(trainer, gpu)
    if trainer.precision == "auto":
        # Older GPUs emulate bfloat16, and are slower in it than in float32.
        native = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        trainer.precision = "bf16-mixed" if native else "32-true"


def worth_compiling(plan: PhasePlan, images: int, stored: bool) -> bool:
    """Return whether the phase is long enough to earn back what ``torch.compile`` takes at its beginning.

    On the CPU it never is: there a compiled step is no faster than one whose memory is kept
    (:mod:`effnet_ft.utils.process_settings`), by ``benchmarks/training_step.py --compile``. A phase from the store is
    short.

    Args:
        plan: the phase.
        images: of the training part.
        stored: the phase trains from stored activations.
    """
    if plan.trainer.compile != "auto":
        return plan.trainer.compile == "on"
    if stored or plan.cut > 0 or plan.trainer.accelerator not in ("gpu", "cuda"):
        return False
    if plan.trainer.checkpointing == "on":  # cannot be compiled
        return False
    compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
    return compiler and plan.epochs * images // plan.data.batch_size > 5_000


def optional_callbacks(plan: PhasePlan, stopwatch: Throughput, phases: int) -> list[Callback]:
    """Return what the terminal and the phase's settings ask for: progress bar, averaged weights, early stopping."""
    callbacks: list[Callback] = []
    if sys.stdout.isatty():
        callbacks.append(ProgressBar(stopwatch, phases))
    if plan.optim.ema != "off":
        callbacks.append(WeightEMA(plan.optim.ema))
    if plan.trainer.patience != "off":
        callbacks.append(EarlyStopping("val/selection", mode="max", patience=plan.trainer.patience))
    return callbacks


def build_trainer(plan: PhasePlan, run: Run, callbacks: list[Callback], loggers: list[Logger]) -> pl.Trainer:
    """Return Lightning's Trainer for a phase.

    Raises:
        RecipeError: where the settings do not fit the machine.
    """
    settings, optim = plan.trainer, plan.optim
    if settings.strategy.endswith(("_spawn", "_fork", "_notebook")):
        raise RecipeError(f"trainer.strategy is '{settings.strategy}': phases need processes that live on; use ddp")
    if "fsdp" in settings.strategy or "deepspeed" in settings.strategy:
        raise RecipeError(
            f"trainer.strategy is '{settings.strategy}': weights are not sharded: b8, the largest variant, has 350 MB "
            "of them; use ddp, with trainer.checkpointing=on where the activations do not fit"
        )
    if settings.compile == settings.checkpointing == "on":
        raise RecipeError("trainer.compile is 'on', not with trainer.checkpointing: set one of them off")
    patience = timedelta(minutes=settings.timeout_minutes)
    try:
        trainer = pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=settings.precision,  # type: ignore[arg-type]
            max_epochs=plan.epochs,
            accumulate_grad_batches=optim.accumulate,
            gradient_clip_val=None if optim.clip_norm == "off" else optim.clip_norm,
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=run.folder,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            plugins=_cluster(),
            use_distributed_sampler=False,  # WholeBatches divides the images itself
        )
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
        raise RecipeError(f"the trainer settings do not fit this machine: {error}") from error
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._timeout = patience  # Lightning takes it with a strategy, not with the name of one
    return trainer


def _cluster() -> SLURMEnvironment | None:
    """Return what keeps Lightning from requeueing a SLURM job itself, from a checkpoint that knows of no phases."""
    launched = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return SLURMEnvironment(auto_requeue=False) if launched else None
