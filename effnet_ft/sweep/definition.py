"""What is decided before a sweep's first setting is trained: checked as a whole, then kept in ``sweep.yaml``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effnet_ft.errors import MachineError, RecipeError, UsageError
from effnet_ft.recipe import Recipe, flat, load_recipe
from effnet_ft.runs.run_folder import Run
from effnet_ft.sweep.grid import RangeAxis, Setting, as_overrides, draw_settings, every_setting, read_grid
from effnet_ft.utils.atomic_files import atomic_write_text
from effnet_ft.utils.text import did_you_mean, listing

METRICS = {"val/acc1": True, "val/acc5": True, "val/map": True, "val/macro_f1": True, "val/ece": False}
"""What settings can be chosen by, each with whether more is better; ``map`` is of images with several labels."""

NEEDED = ("data.root", "phases", "model.weights")
"""What the recipe of a setting must have."""

FINAL = ("data.fit=trainval",)
"""What the final run sets otherwise than the settings it is chosen from: the validation images have done their work."""

_OF_THE_MACHINE = ("run_dir", "data.workers", "trainer.devices")


@dataclass(frozen=True)
class Sweep:
    """Everything that is decided before the first setting is trained.

    Attributes:
        folder: the sweep's own; the settings' run folders are in it.
        recipe: a path or a name.
        overrides: ``key=value`` texts for all settings.
        settings: the swept keys and their values, a setting each.
        metric: a name in :data:`METRICS`.
        identity: plain values that tell this sweep from another one; they stand in ``sweep.yaml``.
        linear: the keys drawn from ranges by equal differences.
    """

    folder: Path
    recipe: str
    overrides: tuple[str, ...]
    settings: list[Setting]
    metric: str
    identity: dict[str, Any]
    linear: tuple[str, ...] = ()

    @property
    def plan(self) -> Path:
        """The file with what was decided."""
        return self.folder / "sweep.yaml"

    @property
    def table(self) -> Path:
        """The file with a row a setting."""
        return self.folder / "sweep.csv"

    @property
    def page(self) -> Path:
        """The file with the charts."""
        return self.folder / "sweep.html"

    @property
    def final(self) -> Run:
        """The run of the best setting on training and validation images."""
        return Run(self.folder / "final")

    def run(self, number: int) -> Run:
        """Return the run of setting ``number``, counted from 1."""
        return Run(self.folder / f"{number:03d}")

    def recipe_at(self, setting: Setting, run: Run, *more: str) -> Recipe:
        """Return the recipe of a setting that is trained in ``run``, with ``more`` overrides."""
        return load_recipe(
            self.recipe, [*self.overrides, *as_overrides(setting), *more, f"run_dir={run.folder}"], require=NEEDED
        )


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
        overrides: ``key=value`` texts for all settings.
        grid: ``key=value,value`` texts, or ``key=low:high`` and ``key=low:high:log`` where settings are drawn.
        random: how many settings to draw; None for all of them.
        seed: of the drawing.
        metric: what settings are compared by, a name in :data:`METRICS`.
        folder: where the sweep is written; None for ``runs/DATA-VARIANT-sweep``.
        final: the best setting will be trained on the validation images too; that is checked as well.

    Raises:
        RecipeError: with every fault found, of the grid and of the recipe at its settings.
    """
    faults = _metric_faults(metric)
    faults += [f"{text}: --out names the folder of a sweep" for text in overrides if text.startswith("run_dir=")]
    axes = read_grid(grid, random is not None, faults)
    settings = every_setting(axes) if random is None or faults else draw_settings(axes, random, seed, faults)
    checked: list[Recipe] = []
    for setting in settings:
        texts = [*overrides, *as_overrides(setting)]
        try:
            checked.append(load_recipe(recipe, texts, NEEDED))
            if final:
                load_recipe(recipe, [*texts, *_as_if_searched(checked[-1]), *FINAL], NEEDED)
        except RecipeError as error:
            if not error.recipe:  # there is no such recipe: it has no faults of its own
                raise
            faults += error.faults
    if checked and not _one_device(checked[0]):
        faults.append(f"trainer.devices is {checked[0].trainer.devices!r}: a sweep trains on one device; set it to 1")
    if faults:
        raise RecipeError(list(dict.fromkeys(faults)), recipe)
    first = checked[0]
    if folder is None:
        folder = Path("runs") / f"{Path(first.data.root).resolve().name}-{first.model.variant}-sweep"
    # "auto" would take every GPU, each with a process that begins the sweep anew.
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
    """Begin the sweep's folder, or make sure that it holds this sweep.

    Raises:
        UsageError: where it holds another sweep, with the differences, or other files.
        MachineError: where it cannot be written.
    """
    import yaml

    if sweep.plan.is_file():
        _check_same(sweep)
    elif sweep.folder.exists() and not (sweep.folder.is_dir() and not any(sweep.folder.iterdir())):
        raise UsageError(f"--out is '{sweep.folder}', which holds other files already: name another folder")
    else:
        try:
            sweep.folder.mkdir(parents=True, exist_ok=True)
            atomic_write_text(sweep.plan, yaml.safe_dump(sweep.identity, sort_keys=False, allow_unicode=True))
        except OSError as error:
            raise MachineError(f"--out is '{sweep.folder}', which cannot be made: {error}") from error


def _as_if_searched(recipe: Recipe) -> list[str]:
    """Return overrides with a number for each learning rate that the settings' runs will have found."""
    return [f"phases.{index}.lr=1e-3" for index, phase in enumerate(recipe.phases) if phase.lr == "auto"]


def _metric_faults(metric: str) -> list[str]:
    if metric in METRICS:
        return []
    if metric.startswith("test/"):
        hint = "; chosen by the test images, a setting could no longer be judged by them"
    else:
        hint = did_you_mean(metric, list(METRICS))
    return [f"--metric is '{metric}', expected one of {', '.join(METRICS)}{hint}"]


def _one_device(recipe: Recipe) -> bool:
    # "2" counts devices, "2," and "[2]" name one.
    one = re.fullmatch(r"auto|1|\d+,|\[\d+\]", str(recipe.trainer.devices).replace(" ", "")) is not None
    return one and recipe.trainer.num_nodes in ("auto", 1)


def _check_same(sweep: Sweep) -> None:
    """Refuse a folder whose ``sweep.yaml`` tells of another sweep."""
    import yaml

    try:
        there = dict(yaml.safe_load(sweep.plan.read_text(encoding="utf-8")))
        parts = [(dict(there[name]), sweep.identity[name]) for name in ("recipe", "grid")]
        parts += [({name: there[name]}, {name: sweep.identity[name]}) for name in ("random", "seed")]
        settings = there["settings"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UsageError(f"{sweep.plan} cannot be understood: restore it, or name another --out") from error
    changed = [
        f"{name}: {_said(old.get(name))} there, {_said(new.get(name))} now"
        for old, new in parts
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    if not changed and settings != sweep.settings:
        changed = ["the settings that were drawn"]
    if changed:
        raise UsageError(
            f"{sweep.folder} holds another sweep: name another folder by --out, or remove it; what differs:\n"
            f"{listing(changed)}"
        )


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)
