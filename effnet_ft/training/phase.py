"""The phases of a run, trained one after another: each with its batches, learning rate, trainer and module."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.states import TrainerStatus

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.distributed import collectives
from effnet_ft.distributed.collectives import is_main_process
from effnet_ft.errors import Interrupted
from effnet_ft.models.classifier import Classifier
from effnet_ft.planning.phases import PhasePlan, plan_phases
from effnet_ft.recipe import Recipe
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.building import build_module, log_phase, norm_momentum
from effnet_ft.training.callbacks.checkpoint import CheckpointSaver, scaled
from effnet_ft.training.callbacks.epochs import EpochTable, Throughput
from effnet_ft.training.callbacks.nan_guard import NaNGuard
from effnet_ft.training.consistency import require_same_weights, scale_lr, share_statistics
from effnet_ft.training.lr_finder.finder import find_lr
from effnet_ft.training.module import FineTuner
from effnet_ft.training.phase_data import PhaseDataSource
from effnet_ft.training.recovery.machine_errors import translate_machine_errors
from effnet_ft.training.recovery.out_of_memory import retry_on_oom
from effnet_ft.training.recovery.resume import ResumeState
from effnet_ft.training.recovery.signals import StopSignal
from effnet_ft.training.sync_batchnorm import sync_batchnorm
from effnet_ft.training.trainer import build_trainer, optional_callbacks, worth_compiling
from effnet_ft.utils.atomic_files import write_json

log = logging.getLogger(__name__)


class PhaseTrainer:
    """Trains the phases of a run.

    Args:
        recipe: resolved, for this machine too; a batch that does not fit is made smaller in it.
        run: the run folder.
        feeder: gives each phase its batches.
        model: what is trained, in place.
        loggers: beside the table of epochs.
        stop: whether the user, or a signal, wants the training to end.

    Attributes:
        stopwatch: what the training took so far.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        feeder: PhaseDataSource,
        model: Classifier,
        loggers: list[Logger],
        stop: StopSignal,
    ) -> None:
        self.recipe = recipe
        self.run = run
        self.feeder = feeder
        self.model = model
        self.loggers = loggers
        self.stop = stop
        self.stopwatch = Throughput()
        self.table = EpochTable(run.table, self.stopwatch, len(feeder.plans))

    def fit(self, left: ResumeState | None = None) -> None:
        """Train every phase; ``left`` is where an interrupted run goes on.

        Errors are those of :func:`effnet_ft.training.fit.train`.
        """
        plans = self.feeder.plans
        if left:
            for callback in (self.stopwatch, self.table):
                callback.load_state_dict(left.states[callback.state_key])
            self.feeder.load_choices(left.notes)
        best = left.best if left else None
        for plan in plans[left.phase if left else 0 :]:
            within = left if left and left.within and left.phase == plan.index else None
            best = retry_on_oom(
                plan,
                self.model,
                partial(self._fit_phase, within, best),
                begun=partial(self._has_trained, -1 if within else len(self.table.rows)),
                settle=self._settle,
            )
        require_same_weights(self.model, "after the last phase")

    def _fit_phase(self, within: ResumeState | None, best: float | None, plan: PhasePlan) -> float | None:
        """Train a phase, or the rest of it, and return the score of the best epoch so far."""
        run, feeder, model, stopwatch = self.run, self.feeder, self.model, self.stopwatch
        split, phases = feeder.split, len(feeder.plans)
        model.freeze(plan.cut, plan.model.batchnorm)
        model.set_rates(plan.model.dropout, plan.model.drop_path)
        model.preprocessing = model.preprocessing.at_size(plan.data.image_size)
        model.checkpointing = plan.trainer.checkpointing == "on"
        keeper = CheckpointSaver(
            run,
            self.stop,
            stopwatch,
            minutes=plan.trainer.checkpoint_minutes,
            select=self.recipe.data.fit == "train",
            best=best,
            begun=within is not None,
            notes=feeder.choices,
        )
        guard = NaNGuard(run, [sample.path for sample in split.train])
        callbacks = [guard, stopwatch, self.table, keeper, *optional_callbacks(plan, stopwatch, phases)]
        trainer = build_trainer(plan, run, callbacks, self.loggers)
        model.set_norm_momentum(norm_momentum(plan, len(split.train), trainer.world_size))
        begun = time.perf_counter()
        require_same_weights(model, f"before phase {plan.index + 1}")
        with translate_machine_errors():  # a smaller batch of the phase would not help where its images are prepared
            data = feeder.data(plan, model, trainer.strategy.root_device)
        if plan.lr == "auto":
            plan = _with_rate(plan, model, data, trainer.strategy.root_device, run, within is not None)
        else:
            plan = scale_lr(plan, trainer.world_size)
        stopwatch.total["elapsed"] += time.perf_counter() - begun  # what is computed once is part of the training
        stored = isinstance(data, ActivationDataModule)
        compiled = worth_compiling(plan, len(split.train), stored)
        seed = (self.recipe.seed, plan.index)
        module = build_module(plan, model, split, seed, stored=stored, compiled=compiled)
        log_phase(plan, phases, model, trainer.world_size)
        if compiled:
            log.info("phase %d/%d: compiled first, which takes a minute or two", plan.index + 1, phases)
        if within:
            batch = scaled(within.batch, within.accumulate, plan.optim.accumulate)
            data.begin = (within.epoch, batch)
            log.info("resumed in phase %d, epoch %d, after %d batches", plan.index + 1, within.epoch + 1, batch)
        with sync_batchnorm(model, plan.trainer.sync_batchnorm == "on" and trainer.world_size > 1):
            _fit(trainer, module, data, self.stop, str(run.last) if within else None)
        share_statistics(model)
        return keeper.best

    def _has_trained(self, rows: int) -> bool:
        """Return whether the table has more than ``rows`` by now."""
        return len(self.table.rows) > rows

    def _settle(self, plan: PhasePlan) -> None:
        """Enter the batches of ``plan`` in the recipe, and in that of the run, which is resumed with them."""
        batches = {"batch_size": plan.data.batch_size, "accumulate": plan.optim.accumulate}
        self.recipe.phases[plan.index] = self.recipe.phases[plan.index].with_values(**batches)
        self.feeder.plans = plan_phases(self.recipe)
        if is_main_process():
            self.recipe.save(self.run.recipe)


def _with_rate(
    plan: PhasePlan, model: Classifier, data: pl.LightningDataModule, device: torch.device, run: Run, resume: bool
) -> PhasePlan:
    """Return ``plan`` with its learning rate chosen, or, resumed, with the one that was chosen."""
    known: dict[str, Any] = collectives.broadcast(json.loads(run.rates.read_text()) if run.rates.is_file() else {})
    number = str(plan.index + 1)
    if resume and number in known:
        decay = known[number]["weight_decay"]
        return replace(plan, lr=known[number]["lr"], optim=plan.optim.with_values(weight_decay=decay))
    chosen = find_lr(plan, model, data, device, run.folder)
    if is_main_process():
        write_json({**known, number: {"lr": chosen.lr, "weight_decay": chosen.optim.weight_decay}}, run.rates)
    return chosen


def _fit(
    trainer: pl.Trainer, module: FineTuner, data: pl.LightningDataModule, stop: StopSignal, checkpoint: str | None
) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        # Lightning ends the whole program where it is interrupted; the program here has a say of its own.
        if trainer.state.status == TrainerStatus.INTERRUPTED:
            stop.listen()  # Lightning leaves Ctrl-C ignored
            raise (end.__context__ if isinstance(end.__context__, Interrupted) else KeyboardInterrupt()) from None
        raise
