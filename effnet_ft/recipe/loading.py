"""Loads a recipe: finds its file, applies ``key=value`` overrides, validates it and reports all faults at once."""

import copy
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

from effnet_ft.errors import RecipeError, WeightsError
from effnet_ft.models.weights.resolving import resolve_weights
from effnet_ft.recipe.faults import PHASES, check
from effnet_ft.recipe.plain_yaml import parse_value, read_yaml
from effnet_ft.recipe.schema import Recipe, key_schemas
from effnet_ft.recipe.settings import is_text
from effnet_ft.utils.text import did_you_mean, shorten


def load_recipe(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), require: Sequence[str] = ()
) -> Recipe:
    """Read, override and check a recipe.

    Args:
        recipe: a path, the name of a file in ``recipes/`` without its ending, or what such a file holds.
        overrides: ``key=value`` texts, applied in order; keys are dotted, ``phases.0.lr`` reaches into a list.
        require: dotted keys that must be set, e.g. ``data.root`` and ``phases``; with ``model.weights``, the weights
            must also be known.

    Raises:
        RecipeError: with every fault found: unknown keys, wrong types, values out of range, missing values.
    """
    faults: list[str] = []
    names = {key for key, schema in key_schemas().items() if is_text(schema)}  # 2024 and on may be some
    if isinstance(recipe, Mapping):
        name, raw = "", copy.deepcopy({**recipe})
    else:
        name, raw = str(recipe), read_yaml(find_recipe(recipe), names)
    _spell_out_store(raw)
    for text in overrides:
        _apply_override(raw, text, names, faults)
        _spell_out_store(raw)
    checked = check(raw, faults)
    missing = [key for key in require if not attrgetter(key)(checked)]
    faults += [f"{key} is not set: {key_schemas()[key].get('description', PHASES)}" for key in missing]
    if "model.weights" in require:
        model = checked.model
        try:
            resolve_weights(model.variant, os.path.expanduser(model.weights), model.family)
        except WeightsError as error:
            faults.append(str(error))
    faults += _contradictions(checked)
    if faults:
        raise RecipeError(faults, name)
    return checked


def require_settable(overrides: Sequence[str], purpose: str, why: str) -> None:
    """Raise a RecipeError that begins with ``why`` for overrides of other keys than those ``settable`` for a purpose.

    The purposes are those of :func:`effnet_ft.recipe.settings.key`.
    """
    keys = [key for key, schema in key_schemas().items() if purpose in schema.get("settable", ())]
    if forbidden := [text for text in overrides if text.partition("=")[0] not in keys]:
        raise RecipeError(f"{why}; only {', '.join(keys[:-1])} and {keys[-1]} can be set: {' '.join(forbidden)}")


def _apply_override(raw: dict[str, Any], text: str, names: set[str], faults: list[str]) -> None:
    """Apply one ``key=value`` text to ``raw`` in place; values of the keys ``names`` are taken as typed."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        fault = f"'{shorten(text)}' is not an override: write key=value without spaces, or quote it: 'key=a value'"
        faults.append(fault)
        return
    parts = key.strip().replace("[", ".").replace("]", "").split(".")
    target: Any = raw
    for part, following in pairwise(parts):
        place = _place(target, part, key, faults)
        if place is None:
            return
        if isinstance(target, dict) and target.get(place) is None:  # absent, or a section left empty
            target[place] = [] if _is_count(following) else {}
        target = target[place]
        if not isinstance(target, dict | list):
            faults.append(f"unknown key '{shorten(key)}': '{shorten(part)}' is a single value")
            return
    place = _place(target, parts[-1], key, faults)
    if place is not None:
        target[place] = value if ".".join(parts) in names else parse_value(value, names, ".".join(parts))


def _spell_out_store(raw: dict[str, Any]) -> None:
    """Let ``store: off`` stand for ``store: {mode: off}``."""
    if raw.get("store") in (False, "off", "keep"):
        raw["store"] = {"mode": raw["store"] or "off"}


def _place(target: Any, part: str, key: str, faults: list[str]) -> str | int | None:
    """Return where ``part`` of an override's key leads in a mapping or a list; None, and a fault, for nowhere."""
    if not isinstance(target, list):
        return part
    if _is_count(part) and int(part) < len(target):
        return int(part)
    faults.append(f"{shorten(key)}: there is no entry {shorten(part)}; the recipe has {len(target)}, counted from 0")
    return None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _contradictions(recipe: Recipe) -> list[str]:
    """Return the faults of values that are valid one by one."""
    faults: list[str] = []
    for index, phase in enumerate(recipe.phases):
        if phase.epochs is None and phase.steps is None:
            faults.append(f"phases[{index}].epochs is not set, nor steps: give one of them")
        elif phase.epochs is not None and phase.steps is not None:
            faults.append(
                f"phases[{index}] has both epochs and steps: remove one, or unset it, as in phases.{index}.steps=null"
            )
    if recipe.data.fit == "trainval":
        if any(phase.overrides.get("patience", recipe.trainer.patience) != "off" for phase in recipe.phases):
            faults.append("data.fit is 'trainval', which leaves no images for early stopping: set trainer.patience=off")
        if any(phase.lr == "auto" and phase.train == "head" for phase in recipe.phases):
            faults.append(
                "data.fit is 'trainval', which leaves no images to search the head's lr on: set the lr that an earlier "
                "run found"
            )
    if recipe.data.val_fraction + recipe.data.test_fraction >= 1:
        faults.append("data.val_fraction and data.test_fraction add up to 1 or more: nothing is left to train on")
    return faults


def recipe_folder() -> Path:
    """Return the folder of the shipped recipes: in the installed package, or in the checkout."""
    package = Path(__file__).parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def find_recipe(name: str | Path) -> Path:
    """Return the file of recipe ``name``: a path, or a name in the recipe folder; RecipeError if there is none."""
    if os.path.isfile(name):
        if str(name).lower().endswith((".csv", ".tsv")):
            raise RecipeError(
                f"'{shorten(str(name))}' is a list of images, not a recipe: to train on it, write folder "
                f"data.source=manifest {shlex.quote(f'data.root={name}')}"
            )
        return Path(name)
    known = {file.stem: file for file in sorted(recipe_folder().glob("*.yaml"))}
    stem = str(name).removesuffix(".yaml")
    if stem in known:
        return known[stem]
    shown = shorten(str(name))
    if os.path.isdir(name):
        raise RecipeError(
            f"'{shown}' is a folder, not a recipe: to train on it, write folder {shlex.quote(f'data.root={shown}')}"
        )
    if re.match(r"[\w.]+=", shown):
        raise RecipeError(f"'{shown}' is not a recipe: give the recipe first, then its keys: folder {shown}")
    raise RecipeError(
        f"no recipe '{shown}': neither a file nor one of {', '.join(known)}{did_you_mean(stem, list(known))}"
    )
