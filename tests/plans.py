"""Plans of made-up images and machines: nothing is read, nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from effnet_ft.planning.facts import Machine
from effnet_ft.planning.planner import make_plan
from effnet_ft.planning.weights import choose_weights
from effnet_ft.recipe import Recipe, load_recipe
from effnet_ft.recipe.plan import ImageFacts, PhasePlan, Plan
from effnet_ft.runs.plan_file import PlanFile

IMAGES = ImageFacts(train=1000, val=100, test=100, classes=3, short_side=90, long_side=120)
CPU = Machine()
GPU = Machine(gpus=1, bf16=True, compiler=True)


def recipe_of(*overrides: str, name: str | Path = "folder") -> Recipe:
    """Return a recipe with ``overrides``."""
    return load_recipe(name, ["data.root=photos", *overrides])


def plan_of(
    *overrides: str,
    images: ImageFacts = IMAGES,
    machine: Machine = CPU,
    name: str | Path = "folder",
    **options: Any,
) -> Plan:
    """Return the plan of a recipe with ``overrides``."""
    recipe = recipe_of(*overrides, name=name)
    return make_plan(recipe, images, choose_weights(recipe.model, recipe.data), machine, **options)


def phase_of(phase: str, *overrides: str, **options: Any) -> PhasePlan:
    """Return the only phase of a plan, e.g. of ``"train: head, epochs: 1, lr: 1e-2"``."""
    (found,) = plan_of(f"phases=[{{{phase}}}]", *overrides, **options).phases
    return found


def plan_file(plan: Plan, folder: Path) -> PlanFile:
    """Return ``plan`` as that of a run in ``folder``, which is not written."""
    return PlanFile(folder / "plan.yaml", plan, writes=False)


def of(images: int, **values: Any) -> ImageFacts:
    """Return the facts of so many training images."""
    return replace(IMAGES, train=images, **values)
