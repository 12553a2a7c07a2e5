"""Defines a sweep: all of its settings are checked before the first is trained, then saved in ``sweep.yaml``."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from effnet_ft.errors import MachineError, RecipeError, UsageError
from effnet_ft.recipe import Recipe, flat, load_recipe
from effnet_ft.runs.run_folder import Run
from effnet_ft.sweep.grid import RangeAxis, Setting, as_overrides, draw_settings, every_setting, read_grid
from effnet_ft.utils.atomic_files import atomic_write_text
from effnet_ft.utils.text import did_you_mean, listing

METRICS = {"val/acc1": True, "val/acc5": True, "val/map": True, "val/macro_f1": True, "val/ece": False}
"""Metrics to rank settings by, and whether higher is better; ``val/map`` is for multi-label images."""

NEEDED = ("data.root", "phases", "model.weights")
"""Keys that the recipe of every setting needs."""

FINAL = ("data.fit=trainval",)
"""Overrides of the final run: once the setting is chosen, it trains on the validation images too."""

_OF_THE_MACHINE = ("run_dir", "data.workers", "trainer.devices")


@dataclass
class Sweep:
    """The settings of a sweep and where they are trained."""

    folder: Path  # holds the settings' run folders
    recipe: str  # a path or a name
    overrides: tuple[str, ...]  # key=value, for all settings
    settings: list[Setting]
    metric: str  # a name in METRICS
    identity: dict[str, Any]  # the content of sweep.yaml, by which an interrupted sweep is recognised
    linear: tuple[str, ...] = ()  # keys drawn from a range uniformly, not log-uniformly

    def __post_init__(self) -> None:
        self.plan = self.folder / "sweep.yaml"
        self.table = self.folder / "sweep.csv"  # a row per setting
        self.page = self.folder / "sweep.html"  # the charts
        self.final = Run(self.folder / "final")  # of the best setting, on the validation images too

    def run(self, number: int) -> Run:
        """Return the run of setting ``number``, counted from 1."""
        return Run(self.folder / f"{number:03d}")

    def recipe_at(self, setting: Setting, run: Run, *more: str) -> Recipe:
        """Return the recipe of a setting trained in ``run``, with ``more`` overrides."""
        overrides = [*self.overrides, *as_overrides(setting), *more, f"run_dir={run.folder}"]
        return load_recipe(self.recipe, overrides, require=NEEDED)


def plan_sweep(
    recipe: str,
    overrides: Sequence[str],
    grid: Sequence[str],
    *,
    random: int | None = None,
    seed: int = 0,
    metric: str = "val/acc1",
    folder: str | os.PathLike[str] | None = None,
    final: bool = False,
) -> Sweep:
    """Read the grid and check the recipe at every setting; nothing is written.

    Args:
        recipe: a path, or a name that ``effnet-ft recipes`` lists.
        overrides: ``key=value``, for all settings.
        grid: ``key=value,value``, or with ``random`` also ``key=low:high`` and ``key=low:high:log``.
        random: how many settings to draw; None for all combinations.
        seed: of the random settings.
        metric: to rank by, a name in :data:`METRICS`.
        folder: of the sweep; None for ``runs/DATA-VARIANT-sweep``.
        final: also check the recipe of the final run.

    Raises:
        RecipeError: with all faults of the grid and of the recipe at every setting.
    """
    faults = [] if metric in METRICS else [_metric_fault(metric)]
    faults += [f"{text}: --out names the folder of a sweep" for text in overrides if text.startswith("run_dir=")]
    axes = read_grid(grid, random is not None, faults)
    settings = every_setting(axes) if random is None or faults else draw_settings(axes, random, seed, faults)
    checked: list[Recipe] = []
    for setting in settings:
        texts = [*overrides, *as_overrides(setting)]
        try:
            checked.append(load_recipe(recipe, texts, NEEDED))
            if final:  # by then the learning rates that are searched for are numbers
                phases = enumerate(checked[-1].phases)
                rates = [f"phases.{index}.lr=1e-3" for index, phase in phases if phase.lr == "auto"]
                load_recipe(recipe, [*texts, *rates, *FINAL], NEEDED)
        except RecipeError as error:
            if not error.recipe:  # the recipe was not found
                raise
            faults += error.faults
    if checked and not _one_device(checked[0]):
        faults.append(f"trainer.devices is {checked[0].trainer.devices!r}: a sweep trains on one device; set it to 1")
    if faults:
        raise RecipeError(list(dict.fromkeys(faults)), recipe)
    first = checked[0]
    if folder is None:
        folder = Path("runs") / f"{Path(first.data.given_root).resolve().name}-{first.model.variant}-sweep"
    # "auto" would use every GPU, each with a process that starts the sweep again.
    device = ["trainer.devices=1"] if first.trainer.devices == "auto" else []
    swept = tuple(axis.key for axis in axes)
    identity = {
        "recipe": {key: value for key, value in flat(first).items() if not key.startswith((*_OF_THE_MACHINE, *swept))},
        "grid": {axis.key: axis.text for axis in axes},
        "random": random,
        "seed": None if random is None else seed,
        "settings": settings,
    }
    linear = tuple(axis.key for axis in axes if isinstance(axis, RangeAxis) and not axis.log)
    return Sweep(Path(folder).expanduser(), recipe, (*overrides, *device), settings, metric, identity, linear)


def open_folder(sweep: Sweep) -> None:
    """Create the sweep's folder; UsageError if it holds a different sweep or other files."""
    if sweep.plan.is_file():
        _check_same(sweep)
    elif sweep.folder.exists() and (not sweep.folder.is_dir() or any(sweep.folder.iterdir())):
        raise UsageError(f"--out is '{sweep.folder}', which already holds other files: choose another folder")
    else:
        try:
            sweep.folder.mkdir(parents=True, exist_ok=True)
            atomic_write_text(sweep.plan, yaml.safe_dump(sweep.identity, sort_keys=False, allow_unicode=True))
        except OSError as error:
            raise MachineError(f"--out is '{sweep.folder}', which cannot be created: {error}") from error


def _metric_fault(metric: str) -> str:
    biased = "; ranking by the test images would bias the final test result"
    hint = biased if metric.startswith("test/") else did_you_mean(metric, list(METRICS))
    return f"--metric is '{metric}', expected one of {', '.join(METRICS)}{hint}"


def _one_device(recipe: Recipe) -> bool:
    # "2" is a number of devices; "2," and "[2]" are one device, number 2.
    one = re.fullmatch(r"auto|1|\d+,|\[\d+\]", str(recipe.trainer.devices).replace(" ", "")) is not None
    return one and recipe.trainer.num_nodes in ("auto", 1)


def _check_same(sweep: Sweep) -> None:
    """Raise a UsageError if the folder's ``sweep.yaml`` defines a different sweep."""
    try:
        saved = dict(yaml.safe_load(sweep.plan.read_text(encoding="utf-8")))
        parts = [(dict(saved[name]), sweep.identity[name]) for name in ("recipe", "grid")]
        parts += [({name: saved[name]}, {name: sweep.identity[name]}) for name in ("random", "seed")]
        settings = saved["settings"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {sweep.plan}: restore it, or choose another --out") from error
    changed = []
    for old, new in parts:
        for name in dict.fromkeys([*old, *new]):
            there, now = ("not set" if some.get(name) is None else some[name] for some in (old, new))
            changed += [f"{name}: {there} there, {now} now"] if there != now else []
    if not changed and settings != sweep.settings:
        changed = ["the random settings"]
    if changed:
        raise UsageError(
            f"{sweep.folder} holds a different sweep: choose another --out, or remove the folder; differences:\n"
            f"{listing(changed)}"
        )
