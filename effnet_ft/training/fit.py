"""A training from start to finish: images, plan, model, phases, evaluation and the run folder."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytorch_lightning as pl

from effnet_ft.data.splits.split import Split
from effnet_ft.distributed import collectives
from effnet_ft.distributed.collectives import is_main_process
from effnet_ft.planning.devices import plan_trainer
from effnet_ft.planning.facts import machine_facts
from effnet_ft.planning.table import plan_summary
from effnet_ft.recipe import Recipe
from effnet_ft.recipe.plan import Plan
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.runs.run_folder import RUN_DIR_VARIABLE, Run, choose_run_dir
from effnet_ft.runs.run_lock import run_lock
from effnet_ft.training import setup
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
from effnet_ft.training.trainer import build_trainer
from effnet_ft.utils.process_settings import end_with_parent
from effnet_ft.utils.text import counted

log = logging.getLogger(__name__)


def train(recipe: Recipe, run_dir: str | None = None, resume: bool = False, test: bool = True) -> Run:
    """Train every phase of ``recipe`` and write a run folder.

    Args:
        recipe: from :func:`effnet_ft.load_recipe`.
        run_dir: an empty or new folder, or the run to resume; None for the recipe's.
        resume: continue the run in there from its newest checkpoint.
        test: evaluate the test images at the end; a sweep leaves them out, so that they do not choose between runs.

    Returns:
        The run.

    Raises:
        RecipeError: if settings do not fit the machine or the images.
        DataError: if the images are at fault.
        WeightsError: if the weights are at fault.
        DivergedError: if the loss is NaN or infinite.
        MachineError: if disk, memory or a process fails; the run can be resumed.
        KeyboardInterrupt: on Ctrl-C, or as ``Interrupted`` on another signal; the run can be resumed.
    """
    run, main = Run(run_dir or choose_run_dir(recipe)), is_main_process()
    with (
        collectives.report_once(),
        console(main) as open_log,
        quiet_lightning(),
        _shared_folder(run),
        run_lock(run.folder) if main else nullcontext(),
        catch_signals() as stop,
        translate_machine_errors(),
        process_watchdog() as watch,
    ):
        setup.require_free_folder(run, resume, main)
        state = load_resume_state(run, main) if resume else None
        model, split = setup.read_run(run, recipe) if state else (None, setup.split_images(recipe))
        strategy = build_trainer(plan_trainer(recipe.trainer, machine_facts())[0]).strategy
        collectives.connect(strategy, started=watch)  # from here on, all ranks run the same code
        state = collectives.broadcast(state)  # other ranks may have read files that rank 0 has replaced since
        require_same_images(split)
        plan = PlanFile(run.plan, _plan(recipe, run, split, state), writes=main)
        if model is None:
            pl.seed_everything(plan.plan.seed, workers=True, verbose=False)  # for the initial weights of the head
            network, images = plan.plan.model, plan.plan.data
            model = collectives.run_on_all_ranks(
                lambda: setup.build_model(network, images.image_size, images.crop, split)
            )
        if main:
            setup.create_run_folder(recipe, plan, run, split, resumed=state is not None)
            open_log(run.log)
        _log_plan(plan.plan, run, split)
        loggers = build_loggers(plan.plan.trainer.loggers, run.folder)
        for logger in loggers:
            logger.log_hyperparams(plan.plan.flat())
        trainer = PhaseTrainer(plan, run, PhaseData(plan, split), model, loggers, stop)
        trainer.fit(state)
        if main:
            run.previous.unlink(missing_ok=True)
        tested = split if test else replace(split, test=[])
        metrics = evaluate_and_report(plan, run, PhaseData(plan, tested), trainer.throughput)
        log_result(loggers, metrics, len(trainer.table.rows))
    return run


def _plan(recipe: Recipe, run: Run, split: Split, state: ResumeState | None) -> Plan:
    """Return the plan that rank 0 makes, or that of the interrupted run."""
    machine, main = machine_facts(), is_main_process()  # the facts on all ranks: they are gathered

    def make() -> Plan:
        return setup.new_plan(recipe, split, machine, str(run.folder))

    def make_or_read() -> Plan | None:
        if not main:
            return None
        return resumed_plan(run, recipe, state, machine.memory_bytes, make) if state else make()

    plan = collectives.broadcast(collectives.run_on_all_ranks(make_or_read))
    assert plan is not None
    return plan


def _log_plan(plan: Plan, run: Run, split: Split) -> None:
    log.info(
        "%s: %d training, %d validation, %s of %s; %s from %s at %d px; run folder %s",
        plan.data.root,
        *(len(split.train), len(split.val), counted(len(split.test), "test image")),
        *(
            counted(len(split.classes), "class"),
            plan.model.variant,
            plan.model.weights,
            plan.data.image_size,
            run.folder,
        ),
    )
    if plan.data.fit == "trainval":
        log.info("training includes the validation images: they select no epoch, and the last one counts as the best")
    side, size = plan.images.short_side, plan.data.image_size
    if side and side < 0.75 * size:
        log.info("images of about %d px are enlarged to %d px", side, size)
    log.info("%s", plan_summary(plan))


@contextmanager
def _shared_folder(run: Run) -> Iterator[None]:
    """Set the run folder of the processes that Lightning launches within the block."""
    before = os.environ.get(RUN_DIR_VARIABLE)
    if before is not None:  # this process was launched by another one of this training
        end_with_parent()
    os.environ[RUN_DIR_VARIABLE] = str(run.folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[RUN_DIR_VARIABLE]
        else:
            os.environ[RUN_DIR_VARIABLE] = before
