"""Reads a recipe: finds its file, applies ``key=value`` overrides, checks every value and tells all faults at once."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effnet_ft.errors import RecipeError
from effnet_ft.models.weights.resolving import weights_fault
from effnet_ft.recipe import checking
from effnet_ft.recipe.plain_yaml import read_yaml
from effnet_ft.recipe.resolving import resolve
from effnet_ft.recipe.schema import SECTIONS, Phase, Recipe, per_phase_keys
from effnet_ft.utils.text import did_you_mean, quoted, shorten


def load_recipe(name: str | Path, overrides: Sequence[str] = (), require: Sequence[str] = ()) -> Recipe:
    """Read, override, check and resolve a recipe.

    Args:
        name: a path, or the name of a file in ``recipes/`` without its ending.
        overrides: ``key=value`` texts, applied in order; keys are dotted, ``phases.0.lr`` reaches into a list.
        require: dotted keys that the purpose needs, e.g. ``data.root`` and ``phases``; with ``model.weights``, weights
            that can be had are meant.

    Returns:
        A recipe in which every ``auto`` that does not depend on the machine's devices is resolved.

    Raises:
        RecipeError: with every fault found: unknown keys, wrong types, values out of range, missing values.
        WeightsError: where the weights decide a value and cannot be had.
    """
    path = find_recipe(name)
    faults: list[str] = []
    raw = read_yaml(path)
    _spell_out_store(raw)
    for text in overrides:
        checking.apply_override(raw, text, Recipe, faults)
        _spell_out_store(raw)
    recipe = _build(raw, faults)
    for key in require:
        if not checking.lookup(recipe, key):
            meaning = checking.describe(Recipe, key) or "a list of {train, epochs, lr}"
            faults.append(f"{key} is not set: {meaning}")
    if "model.weights" in require:
        model = recipe.model
        model.weights = os.path.expanduser(model.weights)
        faults += filter(None, [weights_fault(model.variant, model.weights, model.family)])
    faults += _contradictions(recipe)
    if faults:
        raise RecipeError(faults, str(name))
    resolve(recipe)
    return recipe


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


def _spell_out_store(raw: dict[str, Any]) -> None:
    """Let ``store: off`` stand for ``store: {mode: off}``."""
    if raw.get("store") in (False, "off", "keep"):
        raw["store"] = {"mode": raw["store"] or "off"}


def _build(raw: dict[str, Any], faults: list[str]) -> Recipe:
    """Return a recipe from plain dicts; what does not fit is added to ``faults`` and left at its default."""
    listed = raw.pop("phases", None)
    recipe = checking.build(Recipe, raw, "", faults, skip=("phases",))
    if listed is None:
        return recipe
    if not isinstance(listed, list):
        faults.append(f"phases is {quoted(listed)}, expected a list of {{train, epochs, lr}}")
        return recipe
    recipe.phases = [_build_phase(entry, f"phases[{number}]", faults) for number, entry in enumerate(listed)]
    return recipe


def _build_phase(entry: Any, where: str, faults: list[str]) -> Phase:
    if not isinstance(entry, dict):
        faults.append(f"{where} is {quoted(entry)}, expected a mapping such as {{train: head, epochs: 5, lr: 2e-3}}")
        return Phase()
    sections = per_phase_keys()
    own = {key: value for key, value in entry.items() if key not in sections}
    phase = checking.build(Phase, own, where, faults, skip=("overrides",), also=tuple(sections))
    for name in ("train", "epochs", "lr"):
        if entry.get(name) in (None, "???"):
            faults.append(f"{where}.{name} is not set: {checking.describe(Phase, name)}")
    for key, value in entry.items():
        if key in sections:
            checked: Any = checking.build(SECTIONS[sections[key]], {key: value}, where, faults)
            phase.overrides[key] = getattr(checked, key)
    return phase
