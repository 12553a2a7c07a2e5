"""A training from beginning to end: data, model, phases, and the run folder that is left."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.states import TrainerStatus

from effnet_ft import processes
from effnet_ft.data.split_file import read_split, require_images
from effnet_ft.data.stored import StoredDataModule
from effnet_ft.errors import Interrupted
from effnet_ft.locking import held
from effnet_ft.models.classifier import Classifier
from effnet_ft.opening import image_root
from effnet_ft.process import end_with_parent
from effnet_ft.processes import is_main_process
from effnet_ft.recipe import RUN_DIR_VARIABLE, Recipe
from effnet_ft.results.evaluate import write_json
from effnet_ft.results.run import Run, load_model
from effnet_ft.training.batches import resolve_batches
from effnet_ft.training.building import announce, build_module, norm_momentum
from effnet_ft.training.callbacks import EpochTable, Stopwatch
from effnet_ft.training.concluding import write_end
from effnet_ft.training.console import console, quiet_lightning
from effnet_ft.training.distributed import (
    require_same_images,
    require_same_weights,
    share_statistics,
    take_batches,
    with_scaled_rate,
)
from effnet_ft.training.diverging import FiniteGuard
from effnet_ft.training.faults import machine_faults_told
from effnet_ft.training.feeding import Feeder
from effnet_ft.training.keeping import Keeper, scaled
from effnet_ft.training.loggers import build_loggers
from effnet_ft.training.memory import with_room
from effnet_ft.training.module import FineTuner
from effnet_ft.training.phases import PhasePlan, plan_phases
from effnet_ft.training.preparing import begin, build_model, check_folder, check_for_labels, divide, tell_of_images
from effnet_ft.training.resuming import Left, take_up
from effnet_ft.training.search import choose
from effnet_ft.training.sharding import is_sharded, take_weights, to_be_sharded
from effnet_ft.training.stopping import Stop, stoppable
from effnet_ft.training.synced_norms import synchronised_norms
from effnet_ft.training.together import ended_together
from effnet_ft.training.trainer import (
    build_trainer,
    optional_callbacks,
    resolve_devices,
    worth_compiling,
)

log = logging.getLogger(__name__)


def train(recipe: Recipe, resume: bool = False, test: bool = True) -> Run:
    """Run every phase of ``recipe`` and leave a run folder.

    Args:
        recipe: from :func:`effnet_ft.load_recipe`; its ``run_dir`` must not hold anything yet.
        resume: go on with the run in ``run_dir`` where its newest checkpoint stands, or from its beginning.
        test: measure the test images at the end; without, a choice between runs cannot be made by them.

    Returns:
        The run.

    Raises:
        RecipeError: where settings do not fit the machine, or the run folder is in use, by another training too.
        DataError: where the images are at fault.
        WeightsError: where the weights are.
        DivergedError: where the loss is no longer a number.
        MachineError: where disk, memory or a process of the machine fails; it can be resumed.
        KeyboardInterrupt: where the user stopped it, or :class:`Interrupted` where a signal did; it can be resumed.
    """
    run, main = Run(recipe.run_dir), is_main_process()
    with (
        processes.one_voice(),
        console(speaks=main) as open_log,
        quiet_lightning(),
        _shared_folder(run),
        held(run.folder) if main else nullcontext(),
        stoppable() as stop,
        machine_faults_told(),
        ended_together() as watch,
    ):
        check_folder(run, resume, main)
        left = take_up(run, main) if resume else None
        resolve_devices(recipe.trainer)
        loggers = build_loggers(recipe.trainer.loggers, run.folder)
        for plan in plan_phases(recipe):  # what does not fit the machine is told before anything is read or written
            devices = build_trainer(plan, run, [], loggers).strategy
        pl.seed_everything(recipe.seed, workers=True, verbose=False)
        if left:
            model = load_model(run.last)
            split = read_split(run.split, image_root(recipe.data), model.classes)
            require_images(split)
        else:
            split = divide(recipe)
            if split.multilabel:
                check_for_labels(recipe)
            model = build_model(recipe, split)
        if main:
            resolve_batches(recipe, model, devices.root_device)
            begin(recipe, run, split, resumed=left is not None)
            open_log(run.log)
        log.info(
            "%s: %d training, %d validation, %d test images of %d classes; %s from %s at %d px; run folder %s",
            recipe.data.root,
            *(len(split.part(name)) for name in ("train", "val", "test")),
            len(split.classes),
            recipe.model.variant,
            recipe.model.weights,
            recipe.data.image_size,
            run.folder,
        )
        tell_of_images(recipe, split)
        processes.join(devices, started=watch)  # from here on all processes of the run go the same way
        left = processes.from_main(left)  # the others may have read files that the first one has replaced since
        take_batches(recipe)
        require_same_images(split)
        stopwatch = Stopwatch()
        feeder = Feeder(recipe, split, plan_phases(recipe))
        _fit_phases(recipe, run, feeder, model, stopwatch, loggers, stop, left)
        if main:
            run.previous.unlink(missing_ok=True)  # nothing is trained any more that it could stand in for
        write_end(recipe, run, split if test else replace(split, test=[]), feeder, stopwatch)
    return run


@contextmanager
def _shared_folder(run: Run) -> Iterator[None]:
    """Tell the processes that Lightning launches meanwhile to write where this one does."""
    before = os.environ.get(RUN_DIR_VARIABLE)
    if before is not None:  # another process of this training launched this one
        end_with_parent()
    os.environ[RUN_DIR_VARIABLE] = str(run.folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[RUN_DIR_VARIABLE]
        else:
            os.environ[RUN_DIR_VARIABLE] = before


def _fit_phases(
    recipe: Recipe,
    run: Run,
    feeder: Feeder,
    model: Classifier,
    stopwatch: Stopwatch,
    loggers: list[Logger],
    stop: Stop,
    left: Left | None,
) -> None:
    plans = feeder.plans
    table = EpochTable(run.table, stopwatch, len(plans))
    if left:
        for callback in (stopwatch, table):
            callback.load_state_dict(left.states[callback.state_key])
        feeder.take_up(left.notes)
    best = left.best if left else None
    for plan in plans[left.phase if left else 0 :]:
        within = left if left and left.within and left.phase == plan.index else None
        best = with_room(
            plan,
            model,
            partial(_fit_phase, within, best, recipe, run, feeder, model, stopwatch, table, loggers, stop),
            begun=partial(_has_trained, table, -1 if within else len(table.rows)),
            settle=partial(_settle, recipe, run, feeder),
        )
    require_same_weights(model, "after the last phase")


def _fit_phase(
    within: Left | None,
    best: float | None,
    recipe: Recipe,
    run: Run,
    feeder: Feeder,
    model: Classifier,
    stopwatch: Stopwatch,
    table: EpochTable,
    loggers: list[Logger],
    stop: Stop,
    plan: PhasePlan,
) -> float | None:
    """Train a phase, or the rest of it, and return the score of the best epoch so far."""
    split, phases = feeder.split, len(feeder.plans)
    model.freeze(plan.cut, plan.model.batchnorm)
    model.set_rates(plan.model.dropout, plan.model.drop_path)
    model.preprocessing = model.preprocessing.at_size(plan.data.image_size)
    model.checkpointing = plan.trainer.checkpointing == "on"
    keeper = Keeper(
        run,
        stop,
        minutes=plan.trainer.checkpoint_minutes,
        select=recipe.data.fit == "train",
        best=best,
        begun=within is not None,
        notes=feeder.choices,
    )
    guard = FiniteGuard(run, [sample.path for sample in split.train])
    callbacks = [guard, stopwatch, table, keeper, *optional_callbacks(plan, stopwatch, phases)]
    trainer = build_trainer(plan, run, callbacks, loggers)
    model.set_norm_momentum(norm_momentum(plan, len(split.train), trainer.world_size))
    begun = time.perf_counter()
    require_same_weights(model, f"before phase {plan.index + 1}")
    with machine_faults_told():  # a smaller batch of the phase would not help where its images are prepared
        data = feeder.data(plan, model, trainer.strategy.root_device)
    if plan.lr == "auto":
        plan = _with_rate(plan, model, data, trainer.strategy.root_device, run, within is not None)
    else:
        plan = with_scaled_rate(plan, trainer.world_size)
    stopwatch.total["elapsed"] += time.perf_counter() - begun  # what is computed once is part of the training
    stored = isinstance(data, StoredDataModule)
    compiled = worth_compiling(plan, len(split.train), stored)
    trained = to_be_sharded(model) if is_sharded(trainer) else model
    sharded = is_sharded(trainer)
    module = build_module(
        plan, trained, split, (recipe.seed, plan.index), stored=stored, compiled=compiled, sharded=sharded
    )
    announce(plan, phases, model, trainer.world_size)
    if compiled:
        log.info("phase %d/%d: compiled first, which takes a minute or two", plan.index + 1, phases)
    if within:
        batch = scaled(within.batch, within.accumulate, plan.optim.accumulate)
        data.begin = (within.epoch, batch)
        log.info("resumed in phase %d, epoch %d, after %d batches", plan.index + 1, within.epoch + 1, batch)
    with synchronised_norms(trained, plan.trainer.sync_batchnorm == "on" and trainer.world_size > 1):
        _fit(trainer, module, data, stop, str(run.last) if within else None)
    if trained is not model:
        take_weights(model, trained)
    share_statistics(model)
    return keeper.best


def _has_trained(table: EpochTable, rows: int) -> bool:
    """Return whether ``table`` has more than ``rows`` by now."""
    return len(table.rows) > rows


def _settle(recipe: Recipe, run: Run, feeder: Feeder, plan: PhasePlan) -> None:
    """Enter the batches of ``plan`` in the recipe, and in that of the run, which is resumed with them."""
    recipe.phases[plan.index].overrides.update(batch_size=plan.data.batch_size, accumulate=plan.optim.accumulate)
    feeder.plans = plan_phases(recipe)
    if is_main_process():
        recipe.save(run.recipe)


def _with_rate(
    plan: PhasePlan, model: Classifier, data: pl.LightningDataModule, device: torch.device, run: Run, resume: bool
) -> PhasePlan:
    """Return ``plan`` with its learning rate chosen, or, resumed, with the one that was chosen."""
    known: dict[str, Any] = processes.from_main(json.loads(run.rates.read_text()) if run.rates.is_file() else {})
    number = str(plan.index + 1)
    if resume and number in known:
        decay = known[number]["weight_decay"]
        return replace(plan, lr=known[number]["lr"], optim=replace(plan.optim, weight_decay=decay))
    chosen = choose(plan, model, data, device, run.folder)
    if is_main_process():
        write_json({**known, number: {"lr": chosen.lr, "weight_decay": chosen.optim.weight_decay}}, run.rates)
    return chosen


def _fit(
    trainer: pl.Trainer, module: FineTuner, data: pl.LightningDataModule, stop: Stop, checkpoint: str | None
) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        # Lightning ends the whole program where it is interrupted; the program here has a say of its own.
        if trainer.state.status == TrainerStatus.INTERRUPTED:
            stop.listen()  # Lightning leaves Ctrl-C ignored
            raise (end.__context__ if isinstance(end.__context__, Interrupted) else KeyboardInterrupt()) from None
        raise
