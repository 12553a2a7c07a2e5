"""Trains the phases of a run in order, each with its own batches, learning rate, Trainer and LightningModule."""

import logging
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.states import TrainerStatus

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.data.datamodule import ImageDataModule
from effnet_ft.errors import Interrupted
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.losses import balanced_weights
from effnet_ft.recipe.plan import PhasePlan
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.callbacks.checkpoint import CheckpointSaver, scaled
from effnet_ft.training.callbacks.epoch_table import EpochTable
from effnet_ft.training.callbacks.nan_guard import NaNGuard
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.training.consistency import require_same_weights, share_statistics
from effnet_ft.training.lr_finder.finder import find_lr
from effnet_ft.training.module import FineTuner
from effnet_ft.training.phase_data import PhaseData
from effnet_ft.training.recovery.machine_errors import translate_machine_errors
from effnet_ft.training.recovery.out_of_memory import retry_on_oom
from effnet_ft.training.recovery.resume import ResumeState
from effnet_ft.training.recovery.signals import StopSignal
from effnet_ft.training.sync_batchnorm import sync_batchnorm
from effnet_ft.training.trainer import build_trainer, optional_callbacks
from effnet_ft.utils.text import counted, magnitude

log = logging.getLogger(__name__)


@dataclass
class PhaseTrainer:
    """Trains the phases of a run.

    Attributes:
        throughput: of the training so far.
        table: writes ``metrics.csv``.
    """

    plan: PlanFile  # revised by what is found during training
    run: Run
    data: PhaseData
    model: Classifier  # trained in place
    loggers: list[Logger]
    stop: StopSignal

    def __post_init__(self) -> None:
        self.throughput = Throughput()
        self.table = EpochTable(self.run.table, self.throughput, len(self.plan.plan.phases))

    def fit(self, state: ResumeState | None = None) -> None:
        """Train all phases, or from ``state`` on; raises the errors of :func:`effnet_ft.training.fit.train`."""
        if state:
            for callback in (self.throughput, self.table):
                callback.load_state_dict(state.states[callback.state_key])
        best = state.best if state else None
        for index in range(state.phase if state else 0, len(self.plan.plan.phases)):
            within = state if state and state.within and state.phase == index else None
            best = retry_on_oom(
                index,
                self.plan,
                self.model,
                partial(self._fit_phase, index, within, best),
                begun=partial(self._has_trained, -1 if within else len(self.table.rows)),
            )
        require_same_weights(self.model, "after the last phase")

    def _has_trained(self, epochs: int) -> bool:
        return len(self.table.rows) > epochs

    def _fit_phase(self, index: int, within: ResumeState | None, best: float | None) -> float | None:
        """Train a phase, from ``within`` on if given, and return the score of the best epoch so far."""
        phase, plan, model = self.plan.phase(index), self.plan.plan, self.model
        model.freeze(phase.cut, phase.batchnorm)
        model.set_rates(phase.dropout, phase.drop_path)
        model.set_norm_momentum(phase.bn_momentum)
        model.preprocessing = model.preprocessing.at_size(phase.image_size)
        model.checkpointing = phase.checkpointing
        saver = CheckpointSaver(
            self.run,
            self.stop,
            self.throughput,
            minutes=plan.trainer.checkpoint_minutes,
            select=plan.data.fit == "train",
            best=best,
            resumed=within is not None,
            plan=self.plan,
        )
        guard = NaNGuard(self.run, [sample.path for sample in self.data.split.train])
        optional = optional_callbacks(phase, self.throughput, len(plan.phases))
        callbacks = [guard, self.throughput, self.table, saver, *optional]
        trainer = build_trainer(plan.trainer, phase, self.run.folder, callbacks, self.loggers)
        require_same_weights(model, f"before phase {phase.number}")
        data = self._data(index, trainer.strategy.root_device, within is not None)
        phase = self.plan.phase(index)  # its learning rate is known now
        module = self._module(phase, stored=isinstance(data, ActivationDataModule))
        self._log(phase, trainer.world_size)
        if within:
            batch = scaled(within.batch, within.accumulate, phase.optim.accumulate)
            data.begin = (within.epoch, batch)
            log.info("resumed in phase %d, epoch %d, after %s", phase.number, within.epoch + 1, counted(batch, "batch"))
        with sync_batchnorm(model, phase.sync_batchnorm and trainer.world_size > 1, trainer.strategy.root_device):
            _fit(trainer, module, data, self.stop, self.run.last if within else None)
        share_statistics(model)
        return saver.best

    def _data(self, index: int, device: torch.device, resumed: bool) -> ImageDataModule | ActivationDataModule:
        """Return the phase's batches, and find its learning rate if it has none."""
        start = time.perf_counter()
        with translate_machine_errors():  # a smaller training batch would not help if memory runs out here
            data = self.data.data_module(index, self.model, device, resumed)
        phase = self.plan.phase(index)
        if phase.optim.lr is None:
            precision = self.plan.plan.trainer.precision
            module = self._module(phase, isinstance(data, ActivationDataModule))
            found, how = find_lr(phase, module, data, device, precision, self.run.folder)
            self.plan.revise(self.plan.plan.with_phase(found, how, {f"phases.{index}.lr": how.partition(": ")[2]}))
        self.throughput.total["elapsed"] += time.perf_counter() - start
        return data

    def _module(self, phase: PhasePlan, stored: bool) -> FineTuner:
        """Return the module of a phase, or for a phase without a learning rate the one that a search tries."""
        split = self.data.split
        balanced = phase.optim.class_weights == "balanced"
        return FineTuner(
            self.model,
            phase.optim,
            phase.mixing,
            phase=phase.index,
            class_weights=balanced_weights(split.labels(split.train)) if balanced else None,
            seed=(self.plan.plan.seed, phase.index),
            stored=stored,
            compiled=phase.compile and phase.optim.lr is not None,
        )

    def _log(self, phase: PhasePlan, processes: int) -> None:
        trained = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        total = sum(parameter.numel() for parameter in self.model.parameters())
        name = f"phase {phase.number}/{len(self.plan.plan.phases)}"
        lr = f"{phase.optim.lr:g}"
        scaling = self.plan.plan.reasons.get(f"phases.{phase.index}.lr", "")
        if " images a step" in scaling:
            lr += f" ({scaling.partition(', ')[2]})"
        log.info(
            "%s: train %s (%s of %s parameters), %s, learning rate %s, %s",
            *(name, phase.train, magnitude(trained), magnitude(total), counted(phase.epochs, "epoch")),
            *(lr, step_in_words(phase, processes)),
        )
        if phase.compile:
            log.info("%s: compiling first, which takes a minute or two", name)


def step_in_words(phase: PhasePlan, processes: int) -> str:
    """Return the images per optimiser step, e.g. ``32 images x 2 accumulated x 4 processes = 256 a step``."""
    factors = {"images": phase.batch_size, "accumulated": phase.optim.accumulate, "processes": processes}
    parts = [f"{count} {name}" for name, count in factors.items() if count > 1 or name == "images"]
    total = f" = {math.prod(factors.values())}" if len(parts) > 1 else ""
    return f"{' x '.join(parts)}{total} a step"


def _fit(
    trainer: pl.Trainer, module: FineTuner, data: pl.LightningDataModule, stop: StopSignal, checkpoint: Path | None
) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        # On an interruption Lightning exits the program, which here has more to do, and leaves Ctrl-C ignored.
        if trainer.state.status == TrainerStatus.INTERRUPTED:
            stop.listen()
            raise (end.__context__ if isinstance(end.__context__, Interrupted) else KeyboardInterrupt()) from None
        raise
