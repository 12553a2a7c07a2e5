"""``batch_size: auto`` on a GPU: as many images at once as its memory holds."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
import torch.nn.functional as F

from effnet_ft.errors import RecipeError
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.optimizers import OPTIMIZERS, parameter_groups
from effnet_ft.planning.devices import AUTOCAST
from effnet_ft.recipe.plan import PhasePlan

_SHARE = 0.9
"""Of the GPU's memory that a trial may take: fragments and the libraries' own workspaces need the rest."""


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


def batch_that_fits(
    phase: PhasePlan, wanted: int, variant: str, head: str, classes: int, precision: str, device: torch.device
) -> int:
    """Return how many images of ``phase`` fit on the GPU at once: ``wanted``, or its largest divisor that does.

    Args:
        phase: what is trained.
        wanted: images a step of the optimiser.
        variant: the network, whose weights do not matter.
        head: its head.
        classes: how many.
        precision: of what is computed.
        device: the GPU.

    Raises:
        RecipeError: where not even one image fits.
    """
    return largest_batch(lambda images: _step(phase, images, variant, head, classes, precision, device), wanted)


def _step(
    phase: PhasePlan, images: int, variant: str, head: str, classes: int, precision: str, device: torch.device
) -> None:
    """Train a model for two steps on blank images: the optimiser's own memory comes with its first."""
    model = Classifier(variant, classes=[str(number) for number in range(classes)], head=head).to(device)
    model.freeze(phase.cut, phase.batchnorm)
    model.checkpointing = phase.checkpointing
    model.train()
    optim = phase.optim
    optimiser = OPTIMIZERS[optim.optimizer](parameter_groups(model, optim.weight_decay), 1e-9, optim.momentum, True)
    blank = torch.zeros(images, 3, phase.image_size, phase.image_size, dtype=torch.uint8, device=device)
    kind = AUTOCAST.get(precision)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(2):
        with torch.autocast(device.type, kind, enabled=kind is not None):
            loss = F.cross_entropy(model(blank), torch.zeros(images, dtype=torch.long, device=device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
    if torch.cuda.max_memory_allocated(device) > _SHARE * torch.cuda.get_device_properties(device).total_memory:
        raise torch.OutOfMemoryError
