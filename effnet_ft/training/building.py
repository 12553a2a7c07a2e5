"""From a phase's settings to the module that trains it, and to what the log says of it."""

from __future__ import annotations

import logging

from effnet_ft.data.splits.split import Split
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.optimizers import balanced_weights, decay_rate
from effnet_ft.planning.phases import PhasePlan
from effnet_ft.training.consistency import describe_batch, describe_lr
from effnet_ft.training.module import FineTuner

log = logging.getLogger(__name__)


def build_module(
    plan: PhasePlan,
    model: Classifier,
    split: Split,
    seed: tuple[int, int],
    *,
    stored: bool = False,
    compiled: bool = False,
) -> FineTuner:
    """Return the LightningModule that trains ``plan``.

    Args:
        plan: the phase, its learning rate chosen.
        model: the network, frozen as the phase wants it.
        split: the images.
        seed: numbers that the steps' random numbers start from.
        stored: batches hold what the prefix made of the images.
        compiled: compile the training steps.
    """
    optim = plan.optim
    weights = balanced_weights(split.labels(split.train)) if optim.class_weights == "balanced" else None
    return FineTuner(
        model,
        phase=plan.index,
        lr=float(plan.lr),
        optimiser=optim.name,
        momentum=optim.momentum,
        weight_decay=decay_rate(optim.weight_decay, float(plan.lr), optim.decay_unit),
        schedule=optim.schedule,
        warmup_epochs=optim.warmup_epochs,
        step_epochs=optim.step_epochs,
        step_factor=optim.step_factor,
        layer_decay=optim.layer_decay,
        label_smoothing=optim.label_smoothing,
        class_weights=weights,
        mixup=plan.data.mixup,
        cutmix=plan.data.cutmix,
        seed=seed,
        stored=stored,
        compiled=compiled,
    )


def norm_momentum(plan: PhasePlan, images: int, processes: int = 1) -> float:
    """Return the phase's batch-norm momentum; ``auto`` is that of Kornblith et al. 2019 (arXiv:1805.08974) for a step.

    The statistics move with every batch: those of a step that accumulates several move them together as far as one
    batch of all its images would.
    """
    batches = plan.optim.accumulate
    steps = max(1, images // (plan.data.batch_size * batches * processes))
    of_step = min(10 / steps, 0.1)
    return 1 - (1 - of_step) ** (1 / batches) if plan.model.bn_momentum == "auto" else plan.model.bn_momentum


def log_phase(plan: PhasePlan, phases: int, model: Classifier, processes: int) -> None:
    """Log what the phase trains, at which rate, and how many images a step has."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    rate, batch = describe_lr(plan, processes), describe_batch(plan, processes)
    log.info(
        "phase %d/%d: train %s (%.2f of %.2f million parameters), %d epochs, learning rate %s, %s",
        *(plan.index + 1, phases, plan.train, trained / 1e6, total / 1e6, plan.epochs, rate, batch),
    )
