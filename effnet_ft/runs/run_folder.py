"""The run folder: the names of its files, and reading its checkpoints."""

from __future__ import annotations

import csv
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnet_ft.errors import DataError, WeightsError
from effnet_ft.utils.atomic_files import atomic_write

if TYPE_CHECKING:
    from effnet_ft.models.classifier import Classifier
    from effnet_ft.recipe import Recipe


RUN_DIR_VARIABLE = "EFFNET_FT_RUN_DIR"
"""Set by the process that starts a run, so that the processes it launches write to the same folder."""


class Run:
    """The files of a run, whose ``folder`` need not exist yet."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()
        self.recipe = self.folder / "recipe.yaml"
        self.plan = self.folder / "plan.yaml"
        self.split = self.folder / "split.csv"
        self.classes = self.folder / "classes.txt"
        self.metrics = self.folder / "metrics.json"
        self.table = self.folder / "metrics.csv"
        self.predictions = self.folder / "predictions.csv"
        self.environment = self.folder / "environment.json"
        self.rates = self.folder / "learning_rates.json"  # of version 0.1; now in plan.yaml
        self.report = self.folder / "report.html"
        self.log = self.folder / "log.txt"
        self.checkpoints = self.folder / "checkpoints"
        self.best = self.checkpoints / "best.ckpt"
        self.last = self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "previous.ckpt"

    @property
    def finished(self) -> bool:
        """Whether the training is complete; the report is written last."""
        return self.report.is_file() and self.metrics.is_file()

    @property
    def progress(self) -> str:
        """How many epochs of which phase are trained, in words."""
        text = self.table.read_text(encoding="utf-8", errors="replace") if self.table.is_file() else ""
        phases = [row.get("phase") for row in csv.DictReader(text.splitlines())]
        return f"trained up to epoch {phases.count(phases[-1])} of phase {phases[-1]}" if phases else "no epoch trained"

    def require(self, *paths: Path) -> None:
        """Raise a :class:`DataError` for the first of ``paths`` that is missing."""
        for path in paths:
            if not path.is_file():
                raise DataError(f"{self.folder} is not a finished run: {path.relative_to(self.folder)} is missing")


_OLD_STATE_KEYS = {
    "Keeper": "checkpoint",
    "Stopwatch": "throughput",
    "EpochTable": "epoch_table",
    "AveragedWeights": "weight_ema",
}
"""Callbacks' names in checkpoints of version 0.1."""


def choose_run_dir(recipe: Recipe) -> str:
    """Return the folder that ``run_dir`` names; ``auto`` is the first free ``runs/DATA-VARIANT-N``.

    For processes that a training has launched, ``auto`` is that training's folder.
    """
    if recipe.run_dir != "auto":
        return os.path.expanduser(recipe.run_dir)
    if given := os.environ.get(RUN_DIR_VARIABLE):
        return given
    root = recipe.data.root
    name = os.path.basename(os.path.realpath(root)).removesuffix(".csv") if root else ""
    stem = f"{name[:50] or 'run'}-{recipe.model.variant}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1_000_000))
    return next(str(Path("runs") / name) for name in names if not (Path("runs") / name).exists())


def is_run(path: str | os.PathLike[str]) -> bool:
    """Return whether ``path`` is a run folder, finished or not."""
    return Run(path).recipe.is_file()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a training's checkpoint as plain values and tensors, without running code in it.

    A :class:`WeightsError` is raised if the file is missing, damaged or not a training's checkpoint.
    """
    from effnet_ft.models.weights.files import DESCRIPTION, read_file

    loaded = read_file(path)
    if "phase" not in (loaded.get(DESCRIPTION) or {}):
        raise WeightsError(f"{path} is not a training checkpoint of effnet_ft: it cannot be resumed")
    upgrade_checkpoint(loaded)
    return loaded


def upgrade_checkpoint(checkpoint: dict[str, Any]) -> None:
    """Rename the callbacks of a version 0.1 checkpoint in place."""
    states = checkpoint.get("callbacks", {})
    for old, new in _OLD_STATE_KEYS.items():
        if old in states:
            states[new] = states.pop(old)


def update_description(path: Path, model: Classifier) -> None:
    """Atomically update the description of ``model``, such as its temperature, in its checkpoint."""
    import torch

    from effnet_ft.models.weights.files import DESCRIPTION

    checkpoint = read_checkpoint(path)
    checkpoint[DESCRIPTION]["model"] = model.describe()
    with atomic_write(path, "wb") as file:
        torch.save(checkpoint, file)


def load_model(path: str | os.PathLike[str]) -> Classifier:
    """Return the model of a run folder (its best checkpoint), a checkpoint or an export, in eval mode on the CPU.

    A :class:`WeightsError` is raised if it cannot be read, or was not written by effnet_ft.
    """
    from effnet_ft.models.classifier import Classifier
    from effnet_ft.models.variants import VARIANTS
    from effnet_ft.models.weights.files import naming_file, read_weights
    from effnet_ft.models.weights.key_maps import detect_layout, to_our_keys

    path = Path(path).expanduser()
    file = Run(path).best if path.is_dir() else path
    if not file.is_file() and is_run(path):
        raise WeightsError(
            f"{path} has no {file.relative_to(path)}: if its training was interrupted, resume it with "
            f"{shlex.quote(f'resume={path}')}"
        )
    if not file.is_file():
        raise WeightsError(f"there is no {file}: give a run folder, a checkpoint or an exported model")
    checkpoint = read_weights(file)
    if checkpoint.description is None:
        raise WeightsError(
            f"{file} was not written by effnet_ft: its classes and preprocessing are not known; "
            "to train from it, set it as model.weights"
        )
    with naming_file(file):
        layout, _ = detect_layout(checkpoint.state)
        variant = VARIANTS[checkpoint.description["variant"]]
        return Classifier.rebuild(checkpoint.description, to_our_keys(checkpoint.state, variant, layout))
