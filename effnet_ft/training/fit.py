"""A training from beginning to end: data, model, phases, and the run folder that is left."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytorch_lightning as pl

from effnet_ft.data.sources.opening import image_root
from effnet_ft.data.splits.split_file import read_split, require_images
from effnet_ft.distributed import collectives
from effnet_ft.distributed.collectives import is_main_process
from effnet_ft.planning.batch_size import resolve_batches
from effnet_ft.planning.phases import plan_phases
from effnet_ft.recipe import RUN_DIR_VARIABLE, Recipe, flat
from effnet_ft.runs.run_folder import Run, load_model
from effnet_ft.runs.run_lock import run_lock
from effnet_ft.training.consistency import require_same_images, take_batches
from effnet_ft.training.console import console, quiet_lightning
from effnet_ft.training.final_evaluation import evaluate_and_report
from effnet_ft.training.loggers import build_loggers, log_result
from effnet_ft.training.phase import PhaseTrainer
from effnet_ft.training.phase_data import PhaseDataSource
from effnet_ft.training.recovery.machine_errors import translate_machine_errors
from effnet_ft.training.recovery.resume import load_resume_state
from effnet_ft.training.recovery.signals import catch_signals
from effnet_ft.training.recovery.watchdog import process_watchdog
from effnet_ft.training.setup import (
    build_model,
    create_run_folder,
    log_image_notes,
    require_free_folder,
    require_single_label_settings,
    split_images,
)
from effnet_ft.training.trainer import build_trainer, resolve_devices
from effnet_ft.utils.process_settings import end_with_parent

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
        RecipeError: where settings do not fit the machine, or the run folder holds other files.
        RunLockedError: where another training is at work in the run folder.
        DataError: where the images are at fault.
        WeightsError: where the weights are.
        DivergedError: where the loss is no longer a number.
        MachineError: where disk, memory or a process of the machine fails; it can be resumed.
        KeyboardInterrupt: where the user stopped it, or its kind Interrupted where a signal did; it can be resumed.
    """
    run, main = Run(recipe.run_dir), is_main_process()
    with (
        collectives.report_once(),
        console(speaks=main) as open_log,
        quiet_lightning(),
        _shared_folder(run),
        run_lock(run.folder) if main else nullcontext(),
        catch_signals() as stop,
        translate_machine_errors(),
        process_watchdog() as watch,
    ):
        require_free_folder(run, resume, main)
        left = load_resume_state(run, main) if resume else None
        resolve_devices(recipe.trainer)
        loggers = build_loggers(recipe.trainer.loggers, run.folder)
        for plan in plan_phases(recipe):  # what does not fit the machine is told before anything is read or written
            devices = build_trainer(plan, run, [], loggers).strategy
        pl.seed_everything(recipe.seed, workers=True, verbose=False)
        if left:
            model = load_model(run.last)
            folder = image_root(recipe.data.source, recipe.data.root, recipe.data.images)
            split = read_split(run.split, folder, model.classes)
            require_images(split)
        else:
            split = split_images(recipe)
            if split.multilabel:
                require_single_label_settings(recipe)
            model = build_model(recipe, split)
        if main:
            resolve_batches(recipe, model, devices.root_device)
            create_run_folder(recipe, run, split, resumed=left is not None)
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
        log_image_notes(recipe, split)
        collectives.connect(devices, started=watch)  # from here on all processes of the run go the same way
        left = collectives.broadcast(left)  # the others may have read files that the first one has replaced since
        take_batches(recipe)
        for logger in loggers:
            logger.log_hyperparams(flat(recipe))
        require_same_images(split)
        feeder = PhaseDataSource(recipe, split, plan_phases(recipe))
        fitter = PhaseTrainer(recipe, run, feeder, model, loggers, stop)
        fitter.fit(left)
        if main:
            run.previous.unlink(missing_ok=True)  # nothing is trained any more that it could stand in for
        metrics = evaluate_and_report(recipe, run, split if test else replace(split, test=[]), feeder, fitter.stopwatch)
        log_result(loggers, metrics, len(fitter.table.rows))
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
