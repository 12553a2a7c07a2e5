"""Reads a recipe: finds its file, applies ``key=value`` overrides, checks every value and tells all faults at once."""

from __future__ import annotations

import copy
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from effnet_ft.errors import RecipeError
from effnet_ft.models.weights.resolving import weights_fault
from effnet_ft.recipe.faults import check, meaning
from effnet_ft.recipe.overrides import apply_override, spell_out_store
from effnet_ft.recipe.plain_yaml import read_yaml
from effnet_ft.recipe.resolving import resolve
from effnet_ft.recipe.schema import Recipe, text_keys
from effnet_ft.utils.text import did_you_mean, shorten


def load_recipe(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), require: Sequence[str] = ()
) -> Recipe:
    """Read, override, check and resolve a recipe.

    Args:
        recipe: a path, the name of a file in ``recipes/`` without its ending, or what such a file holds.
        overrides: ``key=value`` texts, applied in order; keys are dotted, ``phases.0.lr`` reaches into a list.
        require: dotted keys that the purpose needs, e.g. ``data.root`` and ``phases``; with ``model.weights``, weights
            that can be had are meant.

    Returns:
        A recipe in which every ``auto`` that does not depend on the machine's devices is resolved.

    Raises:
        RecipeError: with every fault found: unknown keys, wrong types, values out of range, missing values.
        WeightsError: where the weights decide a value and cannot be had.
    """
    faults: list[str] = []
    if isinstance(recipe, Mapping):
        name, raw = "", copy.deepcopy({**recipe})
    else:
        name, raw = str(recipe), read_yaml(find_recipe(recipe), text_keys())
    spell_out_store(raw)
    for text in overrides:
        apply_override(raw, text, faults)
        spell_out_store(raw)
    checked = check(raw, faults)
    faults += [f"{key} is not set: {meaning(key)}" for key in require if not attrgetter(key)(checked)]
    if "model.weights" in require:
        model = checked.model
        fault = weights_fault(model.variant, os.path.expanduser(model.weights), model.family)
        faults += [fault] if fault else []
    faults += _contradictions(checked)
    if faults:
        raise RecipeError(faults, name)
    return resolve(checked)


def _contradictions(recipe: Recipe) -> list[str]:
    """Return what values that are right by themselves have wrong together."""
    faults: list[str] = []
    if recipe.data.fit == "trainval":
        if any(phase.overrides.get("patience", recipe.trainer.patience) != "off" for phase in recipe.phases):
            faults.append("data.fit is 'trainval', which leaves no images to tell a better epoch: trainer.patience=off")
        if any(phase.lr == "auto" and phase.train == "head" for phase in recipe.phases):
            faults.append(
                "data.fit is 'trainval', which leaves no images to search the head's lr on: set the one that an "
                "earlier run found"
            )
    if recipe.data.val_fraction + recipe.data.test_fraction >= 1:
        faults.append("data.val_fraction and data.test_fraction add up to 1 or more: nothing is left to train on")
    return faults


def recipe_folder() -> Path:
    """Return the folder of the recipes that come with the project: in the installed package, or in the checkout."""
    package = Path(__file__).parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def find_recipe(name: str | Path) -> Path:
    """Return the file of recipe ``name``: a path, or a name in the recipe folder.

    Raises:
        RecipeError: where there is none, with the nearest name.
    """
    if os.path.isfile(name):
        if str(name).lower().endswith((".csv", ".tsv")):
            raise RecipeError(
                f"'{shorten(str(name))}' is a list of images, not a recipe: for its images write folder "
                f"data.source=manifest {shlex.quote(f'data.root={name}')}"
            )
        return Path(name)
    known = {file.stem: file for file in sorted(recipe_folder().glob("*.yaml"))}
    stem = str(name).removesuffix(".yaml")
    if stem in known:
        return known[stem]
    told = shorten(str(name))
    if os.path.isdir(name):
        raise RecipeError(
            f"'{told}' is a folder, not a recipe: for its images write folder {shlex.quote(f'data.root={told}')}"
        )
    if re.match(r"[\w.]+=", told):
        raise RecipeError(f"'{told}' stands where a recipe is expected: the recipe first, then its keys: folder {told}")
    raise RecipeError(
        f"no recipe '{told}': neither a file nor one of {', '.join(known)}{did_you_mean(stem, list(known))}"
    )
