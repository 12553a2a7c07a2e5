"""``trainer.on_oom``: a phase whose batch does not fit on the GPU begins again with smaller ones, accumulated."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from effnet_ft.distributed import collectives
from effnet_ft.errors import MachineError
from effnet_ft.models.classifier import Classifier
from effnet_ft.planning.phases import with_batch
from effnet_ft.recipe.plan import PhasePlan, Plan
from effnet_ft.runs.plan_file import PlanFile

Result = TypeVar("Result")


def retry_on_oom(
    index: int, plan: PlanFile, model: Classifier, attempt: Callable[[], Result], begun: Callable[[], bool]
) -> Result:
    """Return what ``attempt`` returns; where the GPU's memory ends, revise the plan and try again.

    Half the images at once or fewer, and as many more batches a step: the optimiser's batch stays what it was. Each
    attempt begins with the weights that the first one began with.

    Args:
        index: of the phase.
        plan: the run's plan.
        model: as the phase begins with it.
        attempt: trains the phase as the plan says; raises :class:`torch.OutOfMemoryError` where the batch does not fit.
        begun: whether the attempt got so far that it cannot begin again: an epoch has fitted.

    Raises:
        MachineError: where nothing fits, or nothing else is to be tried; with what may fit.
    """
    beginning = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    while True:
        try:
            return attempt()
        except torch.OutOfMemoryError:
            pass  # what the attempt held is free once its error is forgotten
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        phase = plan.phase(index)
        smaller = _smaller(plan.plan, phase, begun())
        model.load_state_dict(beginning)
        why = (
            f"phase {phase.number}: {phase.batch_size} images at once do not fit on the GPU: it begins again with "
            f"{smaller.batch_size} at once and {smaller.optim.accumulate} batches a step of the optimiser"
        )
        reason = {f"phases.{index}.batch_size": f"{phase.batch_size} do not fit on the GPU"}
        plan.revise(plan.plan.with_phase(smaller, why, reason), logging.WARNING)


def halve_batch(plan: Plan, phase: PhasePlan) -> PhasePlan:
    """Return a phase of ``plan`` with at most half the images at once and as many more batches a step of the optimiser.

    Half, where that is a whole number; else the largest number below that divides the optimiser's batch.
    """
    wanted = phase.batch_size * phase.optim.accumulate
    batch = next(number for number in range(phase.batch_size // 2, 0, -1) if wanted % number == 0)
    return with_batch(plan, phase, batch, wanted // batch)


def _smaller(plan: Plan, phase: PhasePlan, begun: bool) -> PhasePlan:
    """Return the phase to try next.

    Raises:
        MachineError: where there is none.
    """
    batch, name = phase.batch_size, f"phase {phase.number}"
    if begun:
        raise MachineError(
            f"the GPU's memory is used up in {name}, though its batches of {batch} images had room before: another "
            "program takes some of it; go on when it is free"
        )
    if batch == 1:
        raise MachineError(
            f"{name}: not even one image at once fits on the GPU: take a smaller data.image_size or model.variant, or "
            "trainer.checkpointing=on"
        )
    smaller = halve_batch(plan, phase)
    if collectives.world_size() > 1 or phase.on_oom == "stop":
        raise MachineError(
            f"{name}: {batch} images at once do not fit on the GPU: try data.batch_size={smaller.batch_size} "
            f"optim.accumulate={smaller.optim.accumulate}, or data.batch_size=auto, in the recipe or its phase"
        )
    return smaller
