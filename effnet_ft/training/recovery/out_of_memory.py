"""``trainer.on_oom``: restarts a phase whose batch does not fit on the GPU with smaller, accumulated batches."""

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
    """Return the result of ``attempt``, which trains a phase; when the GPU runs out of memory, try smaller batches.

    Each attempt starts from the same weights, with the same number of images per optimiser step. Once an epoch is
    trained, as ``begun`` says, the phase cannot restart.

    Raises:
        MachineError: if nothing smaller can be tried; it says what may fit.
    """
    initial = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    while True:
        try:
            return attempt()
        except torch.OutOfMemoryError:
            pass  # the memory of the attempt is released only once its error is gone
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        phase = plan.phase(index)
        smaller = _smaller_batch(plan.plan, phase, begun())
        model.load_state_dict(initial)
        change = (
            f"phase {phase.number}: a batch of {phase.batch_size} does not fit on the GPU: restarting the phase with "
            f"batches of {smaller.batch_size}, {smaller.optim.accumulate} of them per optimiser step"
        )
        reason = {f"phases.{index}.batch_size": f"{phase.batch_size} do not fit on the GPU"}
        plan.revise(plan.plan.with_phase(smaller, change, reason), logging.WARNING)


def halve_batch(plan: Plan, phase: PhasePlan) -> PhasePlan:
    """Return a phase of ``plan`` with half the batch size and twice the batches per optimiser step.

    If half is not a whole number, the batch size is the largest one below that divides the images per step.
    """
    images = phase.batch_size * phase.optim.accumulate
    batch = next(number for number in range(phase.batch_size // 2, 0, -1) if images % number == 0)
    return with_batch(plan, phase, batch, images // batch)


def _smaller_batch(plan: Plan, phase: PhasePlan, begun: bool) -> PhasePlan:
    """Return the phase to try next, or raise a :class:`MachineError` that says what may fit."""
    batch, name = phase.batch_size, f"phase {phase.number}"
    if begun:
        raise MachineError(
            f"{name}: out of GPU memory, although batches of {batch} fitted before: another program uses some of it; "
            "resume when it is free"
        )
    if batch == 1:
        raise MachineError(
            f"{name}: not even one image fits on the GPU: choose a smaller data.image_size or model.variant, or set "
            "trainer.checkpointing=on"
        )
    smaller = halve_batch(plan, phase)
    if collectives.world_size() > 1 or phase.on_oom == "stop":
        raise MachineError(
            f"{name}: a batch of {batch} does not fit on the GPU: try data.batch_size={smaller.batch_size} "
            f"optim.accumulate={smaller.optim.accumulate}, or data.batch_size=auto, in the recipe or its phase"
        )
    return smaller
