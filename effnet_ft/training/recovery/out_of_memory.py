"""``trainer.on_oom``: a phase whose batch the GPU does not hold begins again with smaller ones, accumulated."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from effnet_ft.distributed import collectives
from effnet_ft.errors import MachineError
from effnet_ft.models.classifier import Classifier
from effnet_ft.planning.phases import PhasePlan

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def retry_on_oom(
    plan: PhasePlan,
    model: Classifier,
    attempt: Callable[[PhasePlan], Result],
    *,
    begun: Callable[[], bool],
    settle: Callable[[PhasePlan], None],
) -> Result:
    """Return what ``attempt`` does of ``plan``, or of the plan with the largest of the smaller batches that fit.

    The optimiser's batch stays what it was. Each attempt begins with the weights that the first one began with.

    Args:
        plan: the phase.
        model: as the phase begins with it.
        attempt: trains the phase; raises :class:`torch.OutOfMemoryError` where the batch does not fit.
        begun: whether an attempt has got so far that it cannot begin again: whoever trained an epoch has had room.
        settle: writes down the plan that is tried next, for those who resume.

    Raises:
        MachineError: where nothing fits, or nothing else is to be tried; with what may fit.
    """
    beginning = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    while True:
        try:
            return attempt(plan)
        except torch.OutOfMemoryError:
            pass  # what the attempt held is free once its error is forgotten
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        plan = _smaller(plan, begun())
        model.load_state_dict(beginning)
        settle(plan)


def _smaller(plan: PhasePlan, begun: bool) -> PhasePlan:
    """Return the plan to try next, and tell of it.

    Raises:
        MachineError: where there is none.
    """
    batch, phase = plan.data.batch_size, f"phase {plan.index + 1}"
    if begun:
        raise MachineError(
            f"the GPU's memory is used up in {phase}, though its batches of {batch} images had room before: another "
            "program takes some of it; go on when it is free"
        )
    if batch == 1:
        raise MachineError(
            f"{phase}: not even one image at once fits on the GPU: take a smaller data.image_size or model.variant, or "
            "trainer.checkpointing=on"
        )
    smaller = halve_batch(plan)
    numbers = f"{smaller.data.batch_size} at once and {smaller.optim.accumulate} batches a step of the optimiser"
    if collectives.world_size() > 1 or plan.trainer.on_oom == "stop":
        raise MachineError(
            f"{phase}: {batch} images at once do not fit on the GPU: try data.batch_size={smaller.data.batch_size} "
            f"optim.accumulate={smaller.optim.accumulate}, or data.batch_size=auto, in the recipe or its phase"
        )
    log.warning("%s: %d images at once do not fit on the GPU: it begins again with %s", phase, batch, numbers)
    return smaller


def halve_batch(plan: PhasePlan) -> PhasePlan:
    """Return ``plan`` with at most half the images at once and as many more batches a step of the optimiser.

    Half, where that is a whole number; else the largest number below that divides the optimiser's batch.
    """
    wanted = plan.data.batch_size * plan.optim.accumulate
    batch = next(number for number in range(plan.data.batch_size // 2, 0, -1) if wanted % number == 0)
    return replace(
        plan,
        data=plan.data.with_values(batch_size=batch),
        optim=plan.optim.with_values(accumulate=wanted // batch),
    )
