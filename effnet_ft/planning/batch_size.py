"""``batch_size: auto``: as many images at once as the GPU's memory holds, the optimiser's batch by accumulation."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F

from effnet_ft.errors import RecipeError
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.optimizers import OPTIMISERS, parameter_groups
from effnet_ft.planning.phases import PhasePlan, plan_phases
from effnet_ft.recipe import DEFAULT_BATCH, Recipe
from effnet_ft.training.trainer import AUTOCAST

log = logging.getLogger(__name__)

_SHARE = 0.9
"""Of the GPU's memory that a trial may take: fragments and the libraries' own workspaces need the rest."""


def resolve_batches(recipe: Recipe, model: Classifier, device: torch.device) -> None:
    """Replace in place every ``batch_size: auto`` by a number, and ``accumulate`` by what keeps the optimiser's batch.

    Without a GPU the batch is :data:`DEFAULT_BATCH`. On one, each phase tries a step; the devices of a distributed run
    are taken to be alike.

    Args:
        recipe: resolved for this machine.
        model: as the first phase begins with it; it is left as it was.
        device: where it trains.

    Raises:
        RecipeError: where not even one image fits.
    """
    for plan in plan_phases(recipe):
        if plan.data.batch_size == "auto":
            wanted = DEFAULT_BATCH * plan.optim.accumulate
            batch = DEFAULT_BATCH
            if device.type == "cuda":
                batch = largest_batch(lambda images, plan=plan: _step(plan, model, device, images), wanted)  # type: ignore[misc]
                log.info("phase %d: %d images at once, %d a step", plan.index + 1, batch, wanted)
            phase = recipe.phases[plan.index]
            recipe.phases[plan.index] = phase.with_values(batch_size=batch, accumulate=wanted // batch)
    if recipe.data.batch_size == "auto":
        recipe.data.batch_size = min((plan.data.batch_size for plan in plan_phases(recipe)), default=DEFAULT_BATCH)


def largest_batch(step: Callable[[int], None], wanted: int) -> int:
    """Return the largest divisor of ``wanted`` for which ``step`` does not run out of memory.

    Args:
        step: tries so many images; raises :class:`torch.OutOfMemoryError` where they are too many.
        wanted: images.

    Raises:
        RecipeError: where one image is too many.
    """
    for batch in (number for number in range(wanted, 0, -1) if wanted % number == 0):
        try:
            step(batch)
            return batch
        except torch.OutOfMemoryError:
            pass  # what the step held is free once its error is forgotten
        gc.collect()
        torch.cuda.empty_cache()
    raise RecipeError(
        "data.batch_size is 'auto', and not even one image at once fits on the GPU: take a smaller "
        "data.image_size or model.variant, or trainer.checkpointing=on"
    )


def _step(plan: PhasePlan, model: Classifier, device: torch.device, images: int) -> None:
    """Train a copy of ``model`` for a step on ``images`` blank images."""
    trial = copy.deepcopy(model).to(device)
    trial.freeze(plan.cut, plan.model.batchnorm)
    trial.checkpointing = plan.trainer.checkpointing == "on"
    trial.train()
    optimiser = OPTIMISERS[plan.optim.name](
        parameter_groups(trial, plan.optim.weight_decay), 1e-9, plan.optim.momentum, True
    )
    size = plan.data.image_size
    blank = torch.zeros(images, 3, size, size, dtype=torch.uint8, device=device)
    kind = AUTOCAST.get(plan.trainer.precision)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(2):  # the optimiser's own memory comes with its first step
        with torch.autocast(device.type, kind, enabled=kind is not None):
            loss = F.cross_entropy(trial(blank), torch.zeros(images, dtype=torch.long, device=device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
    if torch.cuda.max_memory_allocated(device) > _SHARE * torch.cuda.get_device_properties(device).total_memory:
        raise torch.OutOfMemoryError
