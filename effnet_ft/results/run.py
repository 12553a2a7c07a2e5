"""The run folder: the names of its files, and reading back what a training left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnet_ft.errors import DataError, WeightsError

if TYPE_CHECKING:
    from effnet_ft.models.classifier import Classifier


class Run:
    """The files of a run.

    Args:
        folder: the run folder; it need not exist yet.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()
        self.recipe = self.folder / "recipe.yaml"
        self.split = self.folder / "split.csv"
        self.classes = self.folder / "classes.txt"
        self.metrics = self.folder / "metrics.json"
        self.table = self.folder / "metrics.csv"
        self.predictions = self.folder / "predictions.csv"
        self.report = self.folder / "report.html"
        self.log = self.folder / "log.txt"
        self.checkpoints = self.folder / "checkpoints"
        self.best = self.checkpoints / "best.ckpt"
        self.last = self.checkpoints / "last.ckpt"

    def require(self, *paths: Path) -> None:
        """Raise a :class:`DataError` for the first of ``paths`` that is missing."""
        for path in paths:
            if not path.is_file():
                raise DataError(f"{self.folder} is no finished run: {path.relative_to(self.folder)} is missing")


def is_run(path: str | os.PathLike[str]) -> bool:
    """Return whether ``path`` is a folder that a training left or began."""
    return Run(path).recipe.is_file()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint of ours as plain values and tensors; nothing in it is executed.

    Raises:
        WeightsError: where the file is missing, damaged or not ours.
    """
    import torch

    if not path.is_file():
        raise WeightsError(f"there is no checkpoint {path}: give a run folder or one of its checkpoints")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file; each means the same to the user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(loaded, dict) or "effnet_ft" not in loaded:
        raise WeightsError(f"{path} was not written by effnet_ft: its model and classes are not known")
    return loaded


def load_model(path: str | os.PathLike[str]) -> Classifier:
    """Return the model of a run folder (its best checkpoint) or of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        WeightsError: where it cannot be read.
    """
    from effnet_ft.models.classifier import Classifier

    path = Path(path)
    loaded = read_checkpoint(Run(path).best if path.is_dir() else path)
    prefix = "model."
    state = {key.removeprefix(prefix): value for key, value in loaded["state_dict"].items() if key.startswith(prefix)}
    return Classifier.rebuild(loaded["effnet_ft"]["model"], state)
