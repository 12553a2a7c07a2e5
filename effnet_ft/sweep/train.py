"""Trains the settings of a sweep in turn, and the best one again for the final run."""

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
    """Train the settings that are not trained yet and return all results, the best first.

    An interrupted sweep resumes. Test images are required if a ``final`` run follows.

    Raises:
        UsageError: if the folder holds a different sweep.
        UserError: if a training fails otherwise than by a loss that diverges.
    """
    open_folder(sweep)
    results = read_results(sweep)
    write_table(sweep, results)
    for result in results:
        if result.state == WAITING:
            print(f"\nsetting {result.number} of {len(results)}: {' '.join(as_overrides(result.setting))}", flush=True)
            start, run = time.perf_counter(), sweep.run(result.number)
            try:
                _train(run, sweep.recipe_at(result.setting, run), test=False)
                read_metrics(sweep, result)
            except DivergedError as error:
                print(f"diverged: {error.faults[0]}", flush=True)
                result.seconds, result.state = time.perf_counter() - start, DIVERGED
            write_table(sweep, results)
            if final and result.state == FINISHED:
                _require_test_images(run)

    from effnet_ft.sweep.sweep_page import write_sweep_page

    best_first = ranked(results, sweep.metric)
    write_sweep_page(sweep, best_first, final)
    return best_first


def best_of(results: Sequence[Result]) -> Result:
    """Return the first of the ranked results; UserError if none has finished."""
    if results[0].state != FINISHED:
        raise UserError("the loss diverged at every setting: use lower learning rates or set optim.clip_norm=1")
    return results[0]


def train_final(sweep: Sweep, best: Result) -> dict[str, float]:
    """Train the best setting on the training and validation images and return the metrics of that run.

    Learning rates that its run has found are reused: no validation images are left for a new search.

    Raises:
        RecipeError: if the final run of another setting exists, or the loss diverges.
    """
    run = sweep.final
    recipe = sweep.recipe_at(best.setting, run, *_found_rates(sweep.run(best.number)), *FINAL)
    if run.recipe.is_file():
        _check_setting(run, recipe, best)
    if not run.metrics.is_file():
        print(f"\nfinal run, on training and validation images: {' '.join(as_overrides(best.setting))}", flush=True)
        _train(run, recipe, test=True)
    return dict(json.loads(run.metrics.read_text(encoding="utf-8")))


def _train(run: Run, recipe: Recipe, test: bool) -> None:
    """Train ``recipe``, or resume the unfinished run in its folder."""
    from effnet_ft.training import fit

    resume = is_run(run.folder)
    if resume:
        recipe = load_recipe(run.recipe, [f"run_dir={run.folder}"], ["data.root", "phases"])
    fit.train(recipe, str(run.folder), resume=resume, test=test)


def _require_test_images(run: Run) -> None:
    """Raise a DataError if the split of a run has no test images for the final run."""
    with run.split.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        if not any(row["split"] == "test" for row in csv.DictReader(file)):
            raise DataError("--final needs test images, but there are none: leave it out")


def _found_rates(run: Run) -> list[str]:
    """Return the learning rates and weight decays that a run has found, as overrides that are not scaled again."""
    if not run.plan.is_file():  # version 0.1
        found = json.loads(run.rates.read_text(encoding="utf-8")) if run.rates.is_file() else {}
        return [f"phases.{int(n) - 1}.{key}={value!r}" for n, rates in found.items() for key, value in rates.items()]
    return [
        f"phases.{phase.index}.{key}={value}"
        for phase in read_plan(run.plan).phases
        if phase.search
        for key, value in (("lr", phase.optim.lr), ("weight_decay", phase.optim.weight_decay), ("lr_scaling", "off"))
    ]


def _check_setting(run: Run, recipe: Recipe, best: Result) -> None:
    """Raise a RecipeError if the final run is of another setting than the best one."""
    there, here = flat(load_recipe(run.recipe)), flat(recipe)
    swept = [key for key in dict.fromkeys([*there, *here]) if key.startswith(tuple(best.setting))]
    changed = [
        f"{key}: {there.get(key)} there, {here.get(key)} now"
        for key in swept
        if here.get(key) not in (there.get(key), "auto")  # older runs saved what auto became
    ]
    if changed:
        raise RecipeError(
            f"{run.folder} holds the final run of a setting that is no longer the best: remove it to train this one\n"
            f"{listing(changed)}"
        )
