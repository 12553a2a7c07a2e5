"""From the recipe's phases to what each of them trains, with which settings."""

from __future__ import annotations

from dataclasses import dataclass

from effnet_ft.models.variants import STAGES
from effnet_ft.recipe import (
    SECTIONS,
    DataSettings,
    ModelSettings,
    OptimSettings,
    Phase,
    Recipe,
    StoreSettings,
    TrainerSettings,
    per_phase_keys,
)


@dataclass(frozen=True)
class PhasePlan:
    """A phase with every setting that holds in it: the recipe's, overridden by the phase's own.

    Attributes:
        index: from 0.
        train: what is trained, in the recipe's words.
        cut: the first trained stage; 9 where the head alone is trained.
        epochs: passes over the training images.
        lr: highest learning rate; ``auto`` until it is chosen.
    """

    index: int
    train: str
    cut: int
    epochs: int
    lr: float | str
    model: ModelSettings
    data: DataSettings
    store: StoreSettings
    optim: OptimSettings
    trainer: TrainerSettings


def cut_of(train: str) -> int:
    """Return the first trained stage of ``head``, ``stageK`` or ``all``."""
    named = {"head": STAGES, "all": 0}
    return named[train] if train in named else int(train.removeprefix("stage"))


def plan_phases(recipe: Recipe) -> list[PhasePlan]:
    """Return the recipe's phases in order, each with the settings that hold in it."""
    return [_plan(recipe, index, phase) for index, phase in enumerate(recipe.phases)]


def _plan(recipe: Recipe, index: int, phase: Phase) -> PhasePlan:
    sections = {name: getattr(recipe, name) for name in SECTIONS}
    for name, section in sections.items():
        own = {key: value for key, value in phase.overrides.items() if per_phase_keys()[key] == name}
        sections[name] = section.with_values(**own)
    return PhasePlan(index, phase.train, cut_of(phase.train), phase.epochs, phase.lr, **sections)
