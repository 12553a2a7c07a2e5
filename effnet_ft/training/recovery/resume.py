"""What an interrupted training left: the newest checkpoint that is whole, and where in the phases it stands."""

from __future__ import annotations

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
    """Where a training goes on.

    Attributes:
        phase: index of the phase to go on with; the number of phases where all are trained.
        within: that phase has begun, and its checkpoint is ``last.ckpt``; else it begins with the model in there.
        epoch: of the phase, that goes on or comes next.
        batch: of the epoch, that comes next.
        accumulate: batches a step of the optimiser, as ``batch`` counts them; None where that is not known.
        best: score of ``best.ckpt``.
        notes: what version 0.1 decided on the way; empty where there is a plan.
        states: of Lightning's callbacks, by their keys.
    """

    phase: int
    within: bool
    epoch: int
    batch: int
    accumulate: int | None
    best: float | None
    notes: Mapping[str, Any]
    states: Mapping[str, Any]


def load_resume_state(run: Run, main: bool = True) -> ResumeState | None:
    """Return where the interrupted ``run`` goes on, and clear away what its end left half; None: at the beginning.

    A ``last.ckpt`` that is missing or damaged is replaced by the one before it.

    Args:
        run: the run folder.
        main: this process writes.

    Raises:
        WeightsError: where checkpoints are there, and none is whole.
    """
    if main:
        remove_partial_files(run.folder, run.checkpoints)
    present = [path for path in (run.last, run.previous) if path.is_file()]
    faults = []
    for path in present:
        if fault := find_damage(path):
            faults.append(fault)
            log.warning("%s: falling back to the checkpoint before it", fault)
            continue
        checkpoint = read_checkpoint(path)
        if path == run.previous:
            if not run.last.is_file():  # the machine stopped between giving the old one and the new one their names
                log.warning("%s is missing: falling back to the checkpoint before it", run.last)
            if main:
                os.replace(run.previous, run.last)
        return _sound_best(run, _state(checkpoint), main)
    if present:
        raise WeightsError(
            f"no checkpoint in {run.checkpoints} is whole: begin the run again in another folder\n{listing(faults)}"
        )
    log.info("no checkpoint was written before the interruption: training from the beginning")
    return None


def resumed_plan(run: Run, recipe: Recipe, state: ResumeState, memory_bytes: int, new_plan: Callable[[], Plan]) -> Plan:
    """Return the plan of an interrupted run, with what a resumed run may have otherwise as ``recipe`` says it.

    Args:
        run: the run folder.
        recipe: of the run, with the user's overrides.
        state: where the run goes on.
        memory_bytes: that decoded images may take in memory.
        new_plan: makes a plan from ``recipe``; for runs of version 0.1, which saved none.

    Raises:
        DataError: where ``plan.yaml`` is damaged.
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
    """Return ``plan`` with what a run of version 0.1 had decided: learning rates, and which phases read the store."""
    found = json.loads(run.rates.read_text(encoding="utf-8")) if run.rates.is_file() else {}
    phases = []
    for phase in plan.phases:
        if known := found.get(str(phase.number)):
            phase = replace(phase, optim=replace(phase.optim, lr=known["lr"], weight_decay=known["weight_decay"]))
        stored = state.notes.get("stored", {}).get(phase.index)
        if stored and phase.source.kind != "stored" and state.within and state.phase == phase.index:
            raise DataError(
                f"phase {phase.number} trained from stored activations before it was interrupted, which do not fit: "
                "make room on the disk, or set store.max_gb as it was"
            )
        if stored is False:
            phase = replace(phase, source=BatchSource("files"))
        phases.append(phase)
    store = replace(plan.store, dtype=state.notes.get("dtype", plan.store.dtype))
    return replace(plan, phases=tuple(phases), store=store)


def find_damage(path: Path) -> str:
    """Return what is wrong with a checkpoint file, an empty text where every byte is as it was written."""
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
    kept = states[CheckpointSaver.state_key]
    finished = bool(ours["finished"])
    epoch, batch = (0, 0) if finished else kept["place"]
    return ResumeState(
        phase=int(ours["phase"]) + finished,
        within=not finished,
        epoch=epoch,
        batch=batch,
        accumulate=kept.get("accumulate"),
        best=kept["best"],
        notes=kept.get("notes") or {},
        states=states,
    )


def _sound_best(run: Run, left: ResumeState, main: bool) -> ResumeState:
    """Return ``left``; where ``best.ckpt`` is damaged, the last one stands for it until an epoch is better."""
    if left.best is None or not (fault := find_damage(run.best)):
        return left
    log.warning("%s: the last checkpoint takes its place, and any epoch that follows counts as better", fault)
    if main:
        atomic_link(run.last, run.best)
    return ResumeState(**{**vars(left), "best": float("-inf")})
