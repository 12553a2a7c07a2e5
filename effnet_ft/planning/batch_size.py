"""``batch_size: auto`` on a GPU: the largest batch that fits in its memory."""

import gc
from collections.abc import Callable

import torch

from effnet_ft.errors import RecipeError
from effnet_ft.planning.speed import trial_model, trial_step
from effnet_ft.recipe.plan import PhasePlan

_SHARE = 0.9
"""Of the GPU's memory that a trial may take: fragments and the libraries' own workspaces need the rest."""


def largest_batch(step: Callable[[int], None], wanted: int) -> int:
    """Return the largest divisor of ``wanted`` images for which ``step`` does not raise torch.OutOfMemoryError.

    Raises:
        RecipeError: if one image is too many.
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


def batch_that_fits(
    phase: PhasePlan, wanted: int, variant: str, head: str, classes: int, precision: str, device: torch.device
) -> int:
    """Return the largest divisor of ``wanted`` images with which ``phase`` trains on the GPU ``device``.

    Raises:
        RecipeError: if one image is too many.
    """

    def step(images: int) -> None:
        model = trial_model(phase, variant, head, classes, device).train()
        blank = torch.zeros(images, 3, phase.image_size, phase.image_size, dtype=torch.uint8, device=device)
        train, _ = trial_step(phase, model, model.forward, blank, precision)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(2):  # the optimiser's own memory is allocated in the first
            train()
        if torch.cuda.max_memory_allocated(device) > _SHARE * torch.cuda.get_device_properties(device).total_memory:
            raise torch.OutOfMemoryError

    return largest_batch(step, wanted)
