"""Which run ``resume=`` means, and whether the recipe is still that run's. Free of torch."""

from __future__ import annotations

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
"""Keys that a resumed run may have otherwise than before: none of them changes what is trained."""

_BATCH = ("data.batch_size", "optim.accumulate")

_NEEDED = ("data.root", "phases")


def choose_run(name: str, overrides: Sequence[str], resume: str | None) -> tuple[Recipe, Run, bool]:
    """Return the recipe to train, its run, and whether it goes on with what is in there.

    Args:
        name: of the recipe.
        overrides: of its keys.
        resume: a run folder; ``auto`` for the newest unfinished run of the recipe, a new run where there is none;
            None for a new run.

    Raises:
        RecipeError: where the recipe is at fault, ``resume`` is no run, or a key would change the run.
    """
    if resume not in (None, AUTO):
        run = Run(resume)
        recipe = _resumed_recipe(run, overrides)
        _tell_of_others(name, overrides, run, recipe)
        return recipe, run, True
    if resume == AUTO:
        if found := _newest(name, overrides):
            print_once(f"resume=auto: going on with {found[1].folder}")
            return *found, True
        print_once("resume=auto: no unfinished run of this recipe, a new one is begun")
    recipe = load_recipe(name, overrides, [*_NEEDED, "model.weights"])
    return recipe, Run(choose_run_dir(recipe)), False


def differences(there: Recipe, here: Recipe, run: Run | None = None) -> list[str]:
    """Return the keys in which ``here`` would train otherwise than the run's recipe ``there``, with both values.

    What is ``auto`` here is whatever the run's plan decided. Batches that add up to the same one of the optimiser
    are no difference: they are what fits the memory.
    """
    old, new = _decided(there, run), flat(here)
    found = []
    for key in dict.fromkeys([*old, *new]):
        before, now = _value(old, key), _value(new, key)
        if key in (*FREE, "run_dir") or now in (before, AUTO):
            continue
        if _is_batch(key) and all(_same_steps(old, new, phase) for phase in _phases_of(key, here)):
            continue
        found.append(f"{key}: {before} in the run, {now} now")
    return found


def _is_batch(key: str) -> bool:
    return key in _BATCH or (key.startswith("phases.") and key.endswith((".batch_size", ".accumulate")))


def _phases_of(key: str, recipe: Recipe) -> list[str]:
    """Return the phases that ``key`` can speak of."""
    return [f"phases.{number}" for number in range(len(recipe.phases))] if key in _BATCH else [key.rpartition(".")[0]]


def _batch(values: dict[str, Any], phase: str) -> tuple[Any, Any]:
    """Return how many images at once and how many batches a step of the optimiser ``phase`` has."""
    return _value(values, f"{phase}.batch_size"), _value(values, f"{phase}.accumulate")


def _same_steps(old: dict[str, Any], new: dict[str, Any], phase: str) -> bool:
    """Return whether the optimiser has as many images a step in ``phase``; ``auto`` is made to fit that, too."""
    (had, of_had), (asked, of_asked) = _batch(old, phase), _batch(new, phase)
    if AUTO in (had, asked):
        return asked == AUTO
    return bool(had * of_had == asked * of_asked)


def _smaller_batches(there: Recipe, here: Recipe, run: Run) -> list[str]:
    """Return the overrides for the phases where ``here`` asks for fewer images at once than ``run`` has."""
    old, new = _decided(there, run), flat(here)
    found = []
    for phase in (f"phases.{number}" for number in range(len(here.phases))):
        (had, _), (asked, of_asked) = _batch(old, phase), _batch(new, phase)
        if AUTO not in (had, asked) and asked < had:
            found += [f"{phase}.batch_size={asked}", f"{phase}.accumulate={of_asked}"]
    return found


def _decided(recipe: Recipe, run: Run | None) -> dict[str, Any]:
    """Return the values of a run's recipe, and for ``auto`` what its plan decided."""
    values = flat(recipe)
    try:
        decided = decided_values(read_plan(run.plan)) if run else {}
    except (OSError, ValueError):  # version 0.1 wrote what it decided into the recipe; a damaged plan is reported later
        return values
    searched = (key for key, phase in enumerate(recipe.phases) if phase.lr == AUTO)
    for index in searched:
        decided.pop(f"phases.{index}.lr")
    return values | {
        key: value
        for key, value in decided.items()
        if values.get(key) == AUTO or (_is_batch(key) and value != _value(values, key))
    }


def print_once(text: str) -> None:
    """Print a line, once of all processes that train together."""
    if RUN_DIR_VARIABLE not in os.environ and _is_first():
        print(text, flush=True)


def _is_first() -> bool:
    """Return whether neither torchrun nor SLURM calls this process another than the first."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _resumed_recipe(run: Run, overrides: Sequence[str]) -> Recipe:
    """Return the recipe of ``run`` with ``overrides``, which may not change what it trains."""
    if not is_run(run.folder):
        raise RecipeError(f"resume is '{run.folder}', which is no run folder: it holds no recipe.yaml")
    kept, recipe = load_recipe(run.recipe), load_recipe(run.recipe, overrides, _NEEDED)
    moved = recipe.run_dir != kept.run_dir and Path(recipe.run_dir).absolute() != run.folder.absolute()
    where = [f"run_dir: {run.folder} in the run, {recipe.run_dir} now"] if moved else []
    _refuse(run, [*differences(kept, recipe, run), *where])
    return recipe


def _tell_of_others(name: str, overrides: Sequence[str], run: Run, kept: Recipe) -> None:
    """Tell where the recipe ``name`` differs now from the run's own, which counts."""
    try:
        others = differences(kept, load_recipe(name, overrides), run)
    except RecipeError:  # the recipe that the run came from may be gone
        return
    if others:
        print_once(f"{run.folder} keeps its own recipe.yaml, which differs from {name}:\n{listing(others)}")


def _newest(name: str, overrides: Sequence[str]) -> tuple[Recipe, Run] | None:
    """Return recipe and run of the newest unfinished run that ``name`` with ``overrides`` would train."""
    recipe = load_recipe(name, overrides, _NEEDED)
    free = [text for text in overrides if text.partition("=")[0] in FREE]
    if recipe.run_dir != AUTO:  # no other run is meant
        run = Run(recipe.run_dir)
        if not is_run(run.folder):
            return None
        there = load_recipe(run.recipe)
        _refuse(run, differences(there, recipe, run))
        return _resumed_recipe(run, [*free, *_smaller_batches(there, recipe, run)]), run
    for run in _unfinished(Run(choose_run_dir(recipe)).folder.parent):
        try:
            there = load_recipe(run.recipe)
        except RecipeError:
            continue
        if there.data.root != recipe.data.root or there.model.variant != recipe.model.variant:
            continue
        if not (changed := differences(there, recipe, run)):
            if is_locked(run.folder, _is_first()):
                print_once(f"{run.folder} is unfinished, and another training is at work in it")
                continue
            return _resumed_recipe(run, [*free, *_smaller_batches(there, recipe, run)]), run
        print_once(f"{run.folder} is unfinished, but another run than this one:\n{listing(changed)}")
    return None


def _unfinished(folder: Path) -> list[Run]:
    """Return the runs in ``folder`` that have not come to their end, the newest first."""
    runs = [Run(path) for path in folder.iterdir() if is_run(path)] if folder.is_dir() else []
    return sorted((run for run in runs if not run.finished), key=_touched, reverse=True)


def _touched(run: Run) -> float:
    return max(path.stat().st_mtime for path in (run.recipe, run.last, run.previous) if path.is_file())


def _refuse(run: Run, changed: Sequence[str]) -> None:
    if changed:
        raise RecipeError(
            f"{run.folder} would go on as another run than it began: leave the keys as they were, or begin a new run\n"
            f"{listing(list(changed))}\nonly {', '.join(FREE)} may change"
        )


def _value(values: dict[str, Any], key: str) -> Any:
    """Return the value that holds at ``key``: where a phase sets none of its own, the recipe's."""
    first, _, name = key.rpartition(".")
    if key not in values and first.startswith("phases.") and name in per_phase_keys():
        return values[f"{per_phase_keys()[name]}.{name}"]
    return values.get(key)
