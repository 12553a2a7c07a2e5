"""Resuming an interrupted run: its newest intact checkpoint, its plan, and where in the phases it stopped."""

import json
import logging
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from effnet_ft.errors import DataError, WeightsError
from effnet_ft.planning.planner import with_free_settings
from effnet_ft.recipe import Recipe
from effnet_ft.recipe.plan import BatchSource, Plan, read_plan
from effnet_ft.runs.run_folder import Run, read_checkpoint
from effnet_ft.training.callbacks.checkpoint import CheckpointSaver
from effnet_ft.utils.atomic_files import atomic_link, remove_partial_files
from effnet_ft.utils.text import listing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResumeState:
    """Where a training resumes."""

    phase: int  # index of the next phase to train; the number of phases if all are trained
    within: bool  # whether that phase resumes from `last.ckpt` or starts with the model in it
    epoch: int  # next epoch of the phase
    batch: int  # next batch of the epoch
    accumulate: int | None  # batches per optimiser step when `batch` was counted; None if unknown
    best: float | None  # score of `best.ckpt`
    notes: Mapping[str, Any]  # decisions of version 0.1, which had no plan
    states: Mapping[str, Any]  # of Lightning's callbacks, by their keys


def load_resume_state(run: Run, main: bool = True) -> ResumeState | None:
    """Return where the interrupted ``run`` resumes; None if it had no checkpoint yet.

    The ``main`` process also removes partial files, and replaces a missing or damaged ``last.ckpt`` by the previous one
    and a damaged ``best.ckpt`` by the last one. A :class:`WeightsError` is raised if no checkpoint is intact.
    """
    if main:
        remove_partial_files(run.folder, run.checkpoints)
    faults = []
    for path in (run.last, run.previous):
        if not path.is_file():
            continue
        if fault := find_damage(path):
            faults.append(fault)
            log.warning("%s: falling back to the checkpoint before it", fault)
            continue
        state = _state(read_checkpoint(path))
        if path == run.previous:
            if not run.last.is_file():  # the machine stopped between renaming the old one and the new one
                log.warning("%s is missing: falling back to the checkpoint before it", run.last)
            if main:
                os.replace(run.previous, run.last)
        if state.best is not None and (fault := find_damage(run.best)):
            log.warning("%s: replaced by the last checkpoint until the next epoch", fault)
            if main:
                atomic_link(run.last, run.best)
            state = replace(state, best=float("-inf"))
        return state
    if faults:
        raise WeightsError(
            f"no checkpoint in {run.checkpoints} is intact: start a new run in another folder\n{listing(faults)}"
        )
    log.info("the run was interrupted before its first checkpoint: training from the beginning")
    return None


def resumed_plan(run: Run, recipe: Recipe, state: ResumeState, memory_bytes: int, new_plan: Callable[[], Plan]) -> Plan:
    """Return the plan of an interrupted run, with the settings of ``recipe`` that may change on resuming.

    Decoded images may take ``memory_bytes``. Runs of version 0.1 have no plan and get a ``new_plan``. A
    :class:`DataError` is raised if ``plan.yaml`` is damaged.
    """
    try:
        plan = read_plan(run.plan)
    except FileNotFoundError:
        plan = _plan_of_version_0_1(run, state, new_plan())
    except (OSError, ValueError) as error:
        raise DataError(f"{run.plan} cannot be read: {error}") from error
    changed = with_free_settings(plan, recipe, memory_bytes)
    return plan if changed == plan else replace(changed, revision=plan.revision + 1)


def _plan_of_version_0_1(run: Run, state: ResumeState, plan: Plan) -> Plan:
    """Return ``plan`` with the learning rates and batch sources that a run of version 0.1 had chosen."""
    found = json.loads(run.rates.read_text(encoding="utf-8")) if run.rates.is_file() else {}
    phases = []
    for phase in plan.phases:
        if known := found.get(str(phase.number)):
            phase = replace(phase, optim=replace(phase.optim, lr=known["lr"], weight_decay=known["weight_decay"]))
        stored = state.notes.get("stored", {}).get(phase.index)
        if stored and phase.source.kind != "stored" and state.within and state.phase == phase.index:
            raise DataError(
                f"phase {phase.number} trained from stored activations before the interruption, which no longer fit: "
                "make room on the disk, or set store.max_gb as it was"
            )
        if stored is False:
            phase = replace(phase, source=BatchSource("files"))
        phases.append(phase)
    store = replace(plan.store, dtype=state.notes.get("dtype", plan.store.dtype))
    return replace(plan, phases=tuple(phases), store=store)


def find_damage(path: Path) -> str:
    """Return what is wrong with a checkpoint file; an empty text if every byte is as it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"{path} is damaged: the checksum of {broken} is wrong"
        read_checkpoint(path)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, struct.error) as error:
        return f"{path} is cut short or damaged ({error})"
    except WeightsError as error:
        return str(error)
    return ""


def _state(checkpoint: Mapping[str, Any]) -> ResumeState:
    ours, states = checkpoint["effnet_ft"], checkpoint["callbacks"]
    saved = states[CheckpointSaver.state_key]
    finished = bool(ours["finished"])
    epoch, batch = (0, 0) if finished else saved["place"]
    return ResumeState(
        phase=int(ours["phase"]) + finished,
        within=not finished,
        epoch=epoch,
        batch=batch,
        accumulate=saved.get("accumulate"),
        best=saved["best"],
        notes=saved.get("notes") or {},
        states=states,
    )
