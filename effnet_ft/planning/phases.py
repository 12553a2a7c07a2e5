"""What each phase trains and how: the recipe's settings with the phase's own, and every ``auto`` among them decided."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from effnet_ft.data.sampling import batches_an_epoch
from effnet_ft.models.variants import STAGES, VARIANTS, cut_of
from effnet_ft.optim.settings import BatchMixing, Optimization
from effnet_ft.recipe import DEFAULT_BATCH, Phase, Recipe, per_phase_keys
from effnet_ft.recipe.plan import AugmentPlan, BatchSource, ImageFacts, PhasePlan, Plan, TrainerPlan
from effnet_ft.utils.text import counted

LargestBatch = Callable[[PhasePlan, int], int]
"""Return the largest divisor of a number of images that fits on the GPU at once."""

_COMPILED_STEPS = 5_000
"""Steps from which compiling, which takes a minute or two, is earned back."""


@dataclass(frozen=True)
class PhaseSettings:
    """The recipe's keys as they hold in one phase: its own, else the recipe's."""

    recipe: Recipe
    phase: Phase

    def __getitem__(self, key: str) -> Any:
        own = self.phase.overrides.get(key)
        of_recipe = own is None or (own == "auto" and key in ("image_size", "dropout"))
        return getattr(getattr(self.recipe, per_phase_keys()[key]), key) if of_recipe else own


def plan_phase(
    recipe: Recipe,
    index: int,
    images: ImageFacts,
    trainer: TrainerPlan,
    image_size: int,
    largest_batch: LargestBatch | None = None,
) -> tuple[PhasePlan, dict[str, str]]:
    """Decide a phase but for the source of its batches and what depends on that; return it and its reasons.

    Args:
        recipe: what is wanted.
        index: of the phase.
        images: their numbers count.
        trainer: where it runs.
        image_size: of phases that do not set their own, pixels.
        largest_batch: tries batches on the GPU; None takes the usual one.
    """
    phase, reasons, key = recipe.phases[index], {}, f"phases.{index}."
    settings = PhaseSettings(recipe, phase)
    size, dropout = settings["image_size"], settings["dropout"]
    automatic = settings["batch_size"] == "auto"
    plan = PhasePlan(
        index=index,
        train=phase.train,
        cut=cut_of(phase.train),
        epochs=phase.epochs or 1,
        steps=0,
        search="",
        image_size=image_size if size == "auto" else size,
        batch_size=DEFAULT_BATCH if automatic else settings["batch_size"],
        dropout=VARIANTS[recipe.model.variant].dropout if dropout == "auto" else dropout,
        drop_path=settings["drop_path"],
        batchnorm=settings["batchnorm"],
        bn_momentum=0.0,
        sync_batchnorm=settings["sync_batchnorm"] == "on",
        balanced=settings["sampling"] == "balanced",
        compile=False,
        checkpointing=settings["checkpointing"] == "on",
        on_oom=settings["on_oom"],
        patience=None if settings["patience"] == "off" else settings["patience"],
        augmentation=AugmentPlan(*(settings[key] for key in ("augment", "erasing", "cutout", "smallest_crop"))),
        mixing=BatchMixing(settings["mixup"], settings["cutmix"]),
        optim=_optimization(settings, phase),
        source=BatchSource("files"),
    )
    if automatic:
        wanted = DEFAULT_BATCH * plan.optim.accumulate
        batch = largest_batch(plan, wanted) if largest_batch and trainer.on_gpu else DEFAULT_BATCH
        plan = _with_batch(plan, batch, wanted // batch)
        reasons[f"{key}batch_size"] = "what fits on the GPU" if trainer.on_gpu else "the usual batch"
    lr, scaling = plan.optim.lr, settings["lr_scaling"]
    if lr is not None and scaling != "off":
        images_a_step, meant = plan.batch_size * plan.optim.accumulate * trainer.processes, settings["lr_batch"]
        ratio = images_a_step / meant
        plan = replace(plan, optim=replace(plan.optim, lr=lr * (ratio if scaling == "linear" else math.sqrt(ratio))))
        reasons[f"{key}lr"] = f"{lr:g}, {scaling} in {images_a_step} / {meant} images a step"
    if phase.steps:
        an_epoch = _steps_an_epoch(plan, images.train, trainer.processes)
        plan = replace(plan, epochs=max(1, round(phase.steps / an_epoch)))
        reasons[f"{key}epochs"] = f"nearest to {counted(phase.steps, 'step')}, at {an_epoch} an epoch"
    plan, why = _with_steps(plan, images.train, trainer.processes, settings["bn_momentum"])
    return plan, {**reasons, **{f"{key}{name}": text for name, text in why.items()}}


def with_batch(plan: Plan, phase: PhasePlan, batch_size: int, accumulate: int) -> PhasePlan:
    """Return a phase of ``plan`` with other batches and what follows from them."""
    phase = _with_batch(phase, batch_size, accumulate)
    automatic = f"phases.{phase.index}.bn_momentum" in plan.reasons
    momentum = "auto" if automatic else phase.bn_momentum
    return _with_steps(phase, plan.images.train, plan.trainer.processes, momentum)[0]


def _with_batch(phase: PhasePlan, batch_size: int, accumulate: int) -> PhasePlan:
    return replace(phase, batch_size=batch_size, optim=replace(phase.optim, accumulate=accumulate))


def _with_steps(
    phase: PhasePlan, images: int, processes: int, bn_momentum: float | str
) -> tuple[PhasePlan, dict[str, str]]:
    """Return ``phase`` with its number of steps and the momentum of its batch norms, and the reason of that.

    An ``auto`` momentum is that of Kornblith et al. 2019 (arXiv:1805.08974) for an optimiser step; the batches that a
    step accumulates move the statistics as far as one batch of all its images would.
    """
    accumulate = phase.optim.accumulate
    steps = phase.epochs * _steps_an_epoch(phase, images, processes)
    if bn_momentum != "auto":
        return replace(phase, steps=steps, bn_momentum=float(bn_momentum)), {}
    an_epoch = max(1, images // (phase.batch_size * accumulate * processes))
    of_step = min(10 / an_epoch, 0.1)
    momentum = 1 - (1 - of_step) ** (1 / accumulate)
    return replace(phase, steps=steps, bn_momentum=momentum), {"bn_momentum": f"{counted(an_epoch, 'step')} an epoch"}


def _steps_an_epoch(phase: PhasePlan, images: int, processes: int) -> int:
    return math.ceil(batches_an_epoch(images, phase.batch_size, processes) / phase.optim.accumulate)


def with_search_and_compile(plan: Plan, recipe: Recipe, compiler: bool) -> tuple[tuple[PhasePlan, ...], dict[str, str]]:
    """Decide how learning rates are found and what is compiled; both depend on the source of the batches."""
    phases, reasons = [], {}
    for phase in plan.phases:
        stored = phase.source.kind == "stored"
        if recipe.phases[phase.index].lr == "auto":
            grid = stored and phase.cut == STAGES and plan.model.head == "linear"
            phase = replace(phase, search="grid of heads" if grid else "range test")
            reasons[f"phases.{phase.index}.lr"] = "searched when the phase begins"
        wanted = recipe.trainer.compile
        # On a CPU a compiled step is no faster (benchmarks/training_step.py --compile); stored phases are short.
        worth = (
            plan.trainer.on_gpu
            and not stored
            and phase.cut == 0
            and not phase.checkpointing
            and compiler
            and phase.epochs * plan.images.train // phase.batch_size > _COMPILED_STEPS
        )
        if wanted == "auto" and worth:
            reasons[f"phases.{phase.index}.compile"] = "long enough to earn back compiling"
        phases.append(replace(phase, compile=wanted == "on" or (wanted == "auto" and worth)))
    return tuple(phases), reasons


def _optimization(settings: PhaseSettings, phase: Phase) -> Optimization:
    def number(key: str) -> float | None:
        return None if settings[key] == "off" else settings[key]

    same = (
        *("momentum", "weight_decay", "decay_unit", "schedule", "warmup_epochs", "step_epochs", "step_factor"),
        *("layer_decay", "class_weights", "label_smoothing", "accumulate"),
    )
    return Optimization(
        optimizer=settings["name"],
        lr=None if phase.lr == "auto" else phase.lr,
        ema=number("ema"),
        clip_norm=number("clip_norm"),
        **{key: settings[key] for key in same},
    )
