"""Finds the run that ``resume=`` means, and checks that the recipe still is that run's. Free of torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effnet_ft.errors import RecipeError
from effnet_ft.recipe import Recipe, flat, load_recipe, per_phase_keys
from effnet_ft.recipe.plan import decided_values, read_plan
from effnet_ft.recipe.schema import key_schemas
from effnet_ft.runs.run_folder import RUN_DIR_VARIABLE, Run, choose_run_dir, is_run
from effnet_ft.runs.run_lock import is_locked
from effnet_ft.utils.text import listing

AUTO = "auto"
FREE = tuple(key for key, one in key_schemas().items() if not one.get("affects_training", True) and key != "run_dir")
"""Keys that may change when a run is resumed, because they do not affect what is trained."""

_BATCH = ("data.batch_size", "optim.accumulate")
_REQUIRED = ("data.root", "phases")


def choose_run(name: str, overrides: Sequence[str], resume: str | None) -> tuple[Recipe, Run, bool]:
    """Return the recipe to train, its run, and whether that run is resumed.

    ``resume`` is a run folder; ``auto`` for the newest unfinished run of the recipe or a new one; None for a new one.

    Raises:
        RecipeError: if the recipe is at fault, ``resume`` is not a run, or a key would change the run.
    """
    if resume not in (None, AUTO):
        run = Run(resume)
        recipe = _resumed_recipe(run, overrides)
        try:
            changed = differences(recipe, load_recipe(name, overrides), run)
        except RecipeError:  # the run's original recipe may be gone
            changed = []
        if changed:
            print_once(f"{run.folder} resumes with its own recipe.yaml, which differs from {name}:\n{listing(changed)}")
        return recipe, run, True
    if resume == AUTO:
        if found := _newest_unfinished(name, overrides):
            print_once(f"resume=auto: resuming {found[1].folder}")
            return *found, True
        print_once("resume=auto: no unfinished run of this recipe: starting a new one")
    recipe = load_recipe(name, overrides, [*_REQUIRED, "model.weights"])
    return recipe, Run(choose_run_dir(recipe)), False


def differences(there: Recipe, here: Recipe, run: Run | None = None) -> list[str]:
    """Return the keys with which ``here`` would train something else than the run's recipe ``there``, with both values.

    ``auto`` in ``here`` stands for what the run's plan decided. Batches of another size are no difference if as many
    images make an optimiser step: they are what fits into memory.
    """
    old, new = _decided(there, run), flat(here)
    found = []
    for key in dict.fromkeys([*old, *new]):
        before, now = _value(old, key), _value(new, key)
        if key in (*FREE, "run_dir") or now in (before, AUTO):
            continue
        phases = _phase_keys(here) if key in _BATCH else [key.rpartition(".")[0]]
        if _is_batch(key) and all(_same_step(old, new, phase) for phase in phases):
            continue
        found.append(f"{key}: {before} in the run, {now} now")
    return found


def print_once(text: str) -> None:
    """Print a line, on the first process of a launch only."""
    if RUN_DIR_VARIABLE not in os.environ and _is_first():
        print(text, flush=True)


def _is_first() -> bool:
    """Return whether this process has rank 0 under torchrun or SLURM, or was launched by neither."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _phase_keys(recipe: Recipe) -> list[str]:
    return [f"phases.{number}" for number in range(len(recipe.phases))]


def _is_batch(key: str) -> bool:
    return key in _BATCH or (key.startswith("phases.") and key.endswith((".batch_size", ".accumulate")))


def _batch(values: dict[str, Any], phase: str) -> tuple[Any, Any]:
    """Return the batch size of ``phase`` and its batches per optimiser step."""
    return _value(values, f"{phase}.batch_size"), _value(values, f"{phase}.accumulate")


def _same_step(old: dict[str, Any], new: dict[str, Any], phase: str) -> bool:
    """Return whether an optimiser step of ``phase`` has as many images; a batch size of ``auto`` preserves them."""
    (before, accumulate_before), (now, accumulate) = _batch(old, phase), _batch(new, phase)
    if AUTO in (before, now):
        return now == AUTO
    return bool(before * accumulate_before == now * accumulate)


def _smaller_batches(there: Recipe, here: Recipe, run: Run) -> list[str]:
    """Return overrides for the phases in which ``here`` has smaller batches than ``run``."""
    old, new = _decided(there, run), flat(here)
    found = []
    for phase in _phase_keys(here):
        (before, _), (now, accumulate) = _batch(old, phase), _batch(new, phase)
        if AUTO not in (before, now) and now < before:
            found += [f"{phase}.batch_size={now}", f"{phase}.accumulate={accumulate}"]
    return found


def _decided(recipe: Recipe, run: Run | None) -> dict[str, Any]:
    """Return the values of a run's recipe, with those that its plan decided for ``auto``."""
    values = flat(recipe)
    try:
        decided = decided_values(read_plan(run.plan)) if run else {}
    except (OSError, ValueError):  # version 0.1 had no plan, but a decided recipe; a damaged plan is reported later
        return values
    for index, phase in enumerate(recipe.phases):
        if phase.lr == AUTO:  # is searched
            decided.pop(f"phases.{index}.lr")
    return values | {
        key: value
        for key, value in decided.items()
        if values.get(key) == AUTO or (_is_batch(key) and value != _value(values, key))
    }


def _value(values: dict[str, Any], key: str) -> Any:
    """Return the value of ``key``; for a phase that does not set it, the recipe's."""
    first, _, name = key.rpartition(".")
    if key not in values and first.startswith("phases.") and name in per_phase_keys():
        return values[f"{per_phase_keys()[name]}.{name}"]
    return values.get(key)


def _resumed_recipe(run: Run, overrides: Sequence[str]) -> Recipe:
    """Return the recipe of ``run`` with ``overrides``, which must not change what it trains."""
    if not is_run(run.folder):
        raise RecipeError(f"resume is '{run.folder}', which is not a run folder: it has no recipe.yaml")
    own, recipe = load_recipe(run.recipe), load_recipe(run.recipe, overrides, _REQUIRED)
    moved = recipe.run_dir != own.run_dir and Path(recipe.run_dir).absolute() != run.folder.absolute()
    where = [f"run_dir: {run.folder} in the run, {recipe.run_dir} now"] if moved else []
    _require_unchanged(run, [*differences(own, recipe, run), *where])
    decided, now = _decided(own, run), flat(recipe)  # as many processes as before, whatever auto would be here
    same = [f"{key}='{decided[key]}'" for key in ("trainer.devices", "trainer.num_nodes") if now[key] == AUTO]
    return load_recipe(run.recipe, [*overrides, *same], _REQUIRED)


def _newest_unfinished(name: str, overrides: Sequence[str]) -> tuple[Recipe, Run] | None:
    """Return recipe and run of the newest unfinished run that ``name`` with ``overrides`` would train."""
    recipe = load_recipe(name, overrides, _REQUIRED)
    free = [text for text in overrides if text.partition("=")[0] in FREE]
    if recipe.run_dir != AUTO:
        run = Run(recipe.run_dir)
        if not is_run(run.folder):
            return None
        there = load_recipe(run.recipe)
        _require_unchanged(run, differences(there, recipe, run))
        return _resumed_recipe(run, [*free, *_smaller_batches(there, recipe, run)]), run
    folder = Run(choose_run_dir(recipe)).folder.parent
    runs = [Run(path) for path in folder.iterdir() if is_run(path)] if folder.is_dir() else []
    for run in sorted((run for run in runs if not run.finished), key=_written, reverse=True):
        try:
            there = load_recipe(run.recipe)
        except RecipeError:
            continue
        if there.data.root != recipe.data.root or there.model.variant != recipe.model.variant:
            continue
        if changed := differences(there, recipe, run):
            print_once(f"{run.folder} is unfinished, but its settings differ:\n{listing(changed)}")
        elif is_locked(run.folder, _is_first()):
            print_once(f"{run.folder} is unfinished, but another training is running in it")
        else:
            return _resumed_recipe(run, [*free, *_smaller_batches(there, recipe, run)]), run
    return None


def _written(run: Run) -> float:
    return max(path.stat().st_mtime for path in (run.recipe, run.last, run.previous) if path.is_file())


def _require_unchanged(run: Run, changed: Sequence[str]) -> None:
    if changed:
        raise RecipeError(
            f"these keys would change the run {run.folder}: leave them as they were, or start a new run\n"
            f"{listing(changed)}\nonly {', '.join(FREE)} may change"
        )
