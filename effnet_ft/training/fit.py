"""A training from beginning to end: images, plan, model, phases, and the run folder that is left."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytorch_lightning as pl

from effnet_ft.data.splits.split import Split
from effnet_ft.distributed import collectives
from effnet_ft.distributed.collectives import is_main_process
from effnet_ft.models.classifier import Classifier
from effnet_ft.planning.devices import plan_trainer
from effnet_ft.planning.facts import machine_facts
from effnet_ft.planning.table import plan_summary
from effnet_ft.recipe import Recipe
from effnet_ft.recipe.plan import Plan
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.runs.run_folder import RUN_DIR_VARIABLE, Run, choose_run_dir
from effnet_ft.runs.run_lock import run_lock
from effnet_ft.training.consistency import require_same_images
from effnet_ft.training.console import console, quiet_lightning
from effnet_ft.training.final_evaluation import evaluate_and_report
from effnet_ft.training.loggers import build_loggers, log_result
from effnet_ft.training.phase import PhaseTrainer
from effnet_ft.training.phase_data import PhaseData
from effnet_ft.training.recovery.machine_errors import translate_machine_errors
from effnet_ft.training.recovery.resume import ResumeState, load_resume_state, resumed_plan
from effnet_ft.training.recovery.signals import catch_signals
from effnet_ft.training.recovery.watchdog import process_watchdog
from effnet_ft.training.setup import (
    build_model,
    create_run_folder,
    log_image_notes,
    new_plan,
    read_run,
    require_free_folder,
    split_images,
)
from effnet_ft.training.trainer import build_strategy
from effnet_ft.utils.process_settings import end_with_parent

log = logging.getLogger(__name__)


def train(recipe: Recipe, run_dir: str | None = None, resume: bool = False, test: bool = True) -> Run:
    """Run every phase of ``recipe`` and leave a run folder.

    Args:
        recipe: from :func:`effnet_ft.load_recipe`.
        run_dir: the run folder, which must not hold anything yet; None takes the recipe's.
        resume: go on with the run in there from its newest checkpoint, or from its beginning.
        test: measure the test images at the end; without, a choice between runs cannot be made by them.

    Returns:
        The run.

    Raises:
        RecipeError: where settings do not fit the machine or the images.
        DataError: where the images are at fault.
        WeightsError: where the weights are.
        DivergedError: where the loss is no longer a number.
        MachineError: where disk, memory or a process of the machine fails; it can be resumed.
        KeyboardInterrupt: where the user stopped it, or its kind Interrupted where a signal did; it can be resumed.
    """
    run, main = Run(run_dir or choose_run_dir(recipe)), is_main_process()
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
        state = load_resume_state(run, main) if resume else None
        model, split = read_run(run, recipe) if state else (None, split_images(recipe))
        strategy = build_strategy(plan_trainer(recipe.trainer, machine_facts())[0])
        collectives.connect(strategy, started=watch)  # from here on all processes of the run go the same way
        state = collectives.broadcast(state)  # the others may have read files that the first one has replaced since
        require_same_images(split)
        plan = PlanFile(run.plan, _plan(recipe, run, split, state), writes=main)
        model = model or _new_model(plan.plan, split)
        if main:
            create_run_folder(recipe, plan, run, split, resumed=state is not None)
            open_log(run.log)
        _announce(plan.plan, run, split)
        loggers = build_loggers(plan.plan.trainer.loggers, run.folder)
        for logger in loggers:
            logger.log_hyperparams(plan.plan.flat())
        trainer = PhaseTrainer(plan, run, PhaseData(plan, split), model, loggers, stop)
        trainer.fit(state)
        if main:
            run.previous.unlink(missing_ok=True)  # nothing is trained any more that it could stand in for
        tested = split if test else replace(split, test=[])
        metrics = evaluate_and_report(plan, run, PhaseData(plan, tested), trainer.throughput)
        log_result(loggers, metrics, len(trainer.table.rows))
    return run


def _plan(recipe: Recipe, run: Run, split: Split, state: ResumeState | None) -> Plan:
    """Return the plan that the first process made, or that an interrupted run had."""
    machine, main = machine_facts(), is_main_process()

    def decide() -> Plan | None:
        if not main:
            return None
        if state is None:
            return new_plan(recipe, split, machine, str(run.folder))
        return resumed_plan(
            run, recipe, state, machine.memory_bytes, lambda: new_plan(recipe, split, machine, str(run.folder))
        )

    plan = collectives.broadcast(collectives.run_on_all_ranks(decide))
    assert plan is not None
    return plan


def _new_model(plan: Plan, split: Split) -> Classifier:
    pl.seed_everything(plan.seed, workers=True, verbose=False)  # the new head is drawn
    return collectives.run_on_all_ranks(lambda: build_model(plan.model, plan.data.image_size, plan.data.crop, split))


def _announce(plan: Plan, run: Run, split: Split) -> None:
    """Log what is trained on what."""
    log.info(
        "%s: %d training, %d validation, %d test images of %d classes; %s from %s at %d px; run folder %s",
        plan.data.root,
        *(len(split.part(name)) for name in ("train", "val", "test")),
        *(len(split.classes), plan.model.variant, plan.model.weights, plan.data.image_size, run.folder),
    )
    log_image_notes(plan)
    log.info("%s", plan_summary(plan))


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
