"""Trains a sweep's settings in turn, and the best one once more. Whatever needs torch is imported on the way."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence

from effnet_ft.errors import DataError, DivergedError, RecipeError, UserError
from effnet_ft.recipe import Recipe, flat, load_recipe
from effnet_ft.recipe.plan import read_plan
from effnet_ft.runs.run_folder import Run, is_run
from effnet_ft.sweep.definition import FINAL, Sweep, open_folder
from effnet_ft.sweep.grid import as_overrides
from effnet_ft.sweep.results import DIVERGED, FINISHED, WAITING, Result, ranked, read_metrics, read_results, write_table
from effnet_ft.utils.text import listing


def run_sweep(sweep: Sweep, final: bool = False) -> list[Result]:
    """Train the settings that are not trained yet, in turn, and return all results, the best first.

    Args:
        sweep: from :func:`effnet_ft.sweep.plan_sweep`.
        final: a final run is to follow, which needs test images.

    Raises:
        RecipeError: where the folder holds another sweep, or a setting does not fit the machine.
        DataError: where the images are at fault.
        WeightsError: where the weights are.
        KeyboardInterrupt: where the user stopped it; the same sweep goes on from there.
    """
    open_folder(sweep)
    results = read_results(sweep)
    write_table(sweep, results)
    for result in results:
        if result.state == WAITING:
            print(f"\nsetting {result.number} of {len(results)}: {' '.join(as_overrides(result.setting))}", flush=True)
            _train_setting(sweep, result)
            write_table(sweep, results)
            if final and result.state == FINISHED:
                _require_test_images(sweep.run(result.number))

    from effnet_ft.sweep.sweep_page import write_sweep_page

    best_first = ranked(results, sweep.metric)
    write_sweep_page(sweep, best_first)
    return best_first


def best_of(results: Sequence[Result]) -> Result:
    """Return the first of the ranked results.

    Raises:
        UserError: where none has finished.
    """
    if results[0].state != FINISHED:
        raise UserError("the loss diverged at every setting: take lower learning rates, or set optim.clip_norm=1")
    return results[0]


def train_final(sweep: Sweep, best: Result) -> dict[str, float]:
    """Train the best setting once more, on training and validation images, and return that run's metrics.

    Learning rates that the best setting searched for are kept: a new search would have no images left to judge by.

    Raises:
        RecipeError: where the final run is there already, of another setting, or its loss diverges.
    """
    run = sweep.final
    recipe = sweep.recipe_at(best.setting, run, *_searched(sweep.run(best.number)), *FINAL)
    if run.recipe.is_file():
        _check_setting(run, recipe, best)
    if not run.metrics.is_file():
        print(f"\nfinal run, on training and validation images: {' '.join(as_overrides(best.setting))}", flush=True)
        _train(run, recipe, test=True)
    metrics: dict[str, float] = json.loads(run.metrics.read_text(encoding="utf-8"))
    return metrics


def _train_setting(sweep: Sweep, result: Result) -> None:
    run = sweep.run(result.number)
    begun = time.perf_counter()
    try:
        _train(run, sweep.recipe_at(result.setting, run), test=False)
    except DivergedError as error:
        print(f"diverged: {error.faults[0]}", flush=True)
        result.seconds, result.state = time.perf_counter() - begun, DIVERGED
    else:
        read_metrics(sweep, result)


def _train(run: Run, recipe: Recipe, test: bool) -> None:
    """Train ``recipe``, or go on with the half run that is in its folder."""
    from effnet_ft.training import fit

    half = is_run(run.folder)
    if half:
        recipe = load_recipe(run.recipe, [f"run_dir={run.folder}"], ["data.root", "phases"])
    fit.train(recipe, str(run.folder), resume=half, test=test)


def _require_test_images(run: Run) -> None:
    """Refuse a sweep whose final run would have nothing to be measured on, after its first setting."""
    with run.split.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        if not any(row["split"] == "test" for row in csv.DictReader(file)):
            raise DataError("--final measures the best setting on test images, and there are none: leave it out")


def _searched(run: Run) -> list[str]:
    """Return the learning rates and weight decays that a run searched for, as overrides; they are scaled no more."""
    if not run.plan.is_file():  # version 0.1
        rates = run.folder / "learning_rates.json"
        known = json.loads(rates.read_text(encoding="utf-8")) if rates.is_file() else {}
        return [f"phases.{int(n) - 1}.{key}={value!r}" for n, one in known.items() for key, value in one.items()]
    found = [phase for phase in read_plan(run.plan).phases if phase.search]
    return [
        f"phases.{phase.index}.{key}={value}"
        for phase in found
        for key, value in (("lr", phase.optim.lr), ("weight_decay", phase.optim.weight_decay), ("lr_scaling", "off"))
    ]


def _check_setting(run: Run, recipe: Recipe, best: Result) -> None:
    """Refuse a final run of another setting than the best one."""
    there, here = flat(load_recipe(run.recipe)), flat(recipe)
    swept = [key for key in dict.fromkeys([*there, *here]) if key.startswith(tuple(best.setting))]
    changed = [
        f"{key}: {there.get(key)} there, {here.get(key)} now"
        for key in swept
        if here.get(key) not in (there.get(key), "auto")  # a run writes down what it took for auto
    ]
    if changed:
        raise RecipeError(
            f"{run.folder} holds the final run of a setting that is no longer the best: remove it to train this one\n"
            f"{listing(changed)}"
        )
