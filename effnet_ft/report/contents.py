"""The files of a run folder, read for its report."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from omegaconf import OmegaConf
from yaml import YAMLError

from effnet_ft.errors import DataError
from effnet_ft.evaluation.intervals import wilson_interval
from effnet_ft.recipe.images import image_root
from effnet_ft.recipe.plain_yaml import resolver_calls
from effnet_ft.recipe.plan import Plan, read_plan
from effnet_ft.report.thumbnails import Thumbnails
from effnet_ft.runs.run_folder import Run
from effnet_ft.utils.tables import unescape_formula

if TYPE_CHECKING:
    from effnet_ft.inference.predictor import Predictor

RowT = TypeVar("RowT")

SPLITS = {"train": "training", "val": "validation", "test": "test"}
TIMES = ("seconds", "images_per_second", "data_wait_fraction")
NUMBERS = ("epoch", "train/loss", "train/acc1", "val/loss", "val/acc1", *TIMES)
"""Columns of metrics.csv; `map` stands for `acc1` where images have several labels."""


@dataclass(frozen=True)
class Prediction:
    """A predicted image; its labels are several, or none, where images have any number of them."""

    path: str  # relative to the folder of the images
    true: Sequence[int]  # indices of the true classes
    predicted: Sequence[int]  # indices of the predicted classes
    label: str  # the true classes, joined by commas
    prediction: str  # the predicted classes, likewise
    probability: float  # the highest of the predicted classes; NaN where there is none
    uncalibrated: float = math.nan  # the probability before calibration; NaN where it is not known

    @property
    def errors(self) -> int:
        """How many labels are missing or too many; of a single class 0 or 2."""
        return len({*self.true} ^ {*self.predicted})


@dataclass(frozen=True)
class RunContents:
    """The files of a run."""

    name: str  # of the run folder
    recipe_text: str  # `recipe.yaml` as it is written
    recipe: Any  # the same, parsed
    metrics: Mapping[str, Any]  # of `metrics.json`
    classes: Sequence[str]  # names in the model's order
    phases: Sequence[tuple[str, list[dict[str, float]]]]  # rows of `metrics.csv` by label, as "2 stage4"
    predictions: Sequence[Prediction]  # rows of `predictions.csv`
    split_counts: Counter[tuple[str, str]]  # images by class and split
    image_count: int  # images of all splits
    trained_on_val: bool  # the training images are those of the validation split too, which then counts none
    training_paths: Sequence[str] = ()  # paths of the training images, in their order
    plan: Plan | None = None  # of `plan.yaml`; runs of version 0.1 have none
    starts: Sequence[Mapping[str, Any]] = ()  # from `environment.json`, the first one first
    thumbnails: Thumbnails = field(default_factory=Thumbnails)  # reads the images

    @property
    def multilabel(self) -> bool:
        """Whether images have any number of labels, not one class."""
        return "val/map" in self.metrics

    @property
    def split(self) -> str:
        """The split that was predicted: test where there is one, else val."""
        return "test" if any(key.startswith("test/") for key in self.metrics) else "val"

    @property
    def split_name(self) -> str:
        """The same in words."""
        return SPLITS[self.split]

    @property
    def score(self) -> tuple[str, str]:
        """The metric that says how good the run is, and its name."""
        return ("map", "mean average precision") if self.multilabel else ("acc1", "accuracy")

    @cached_property
    def true(self) -> np.ndarray:
        """The true class index of each prediction, int64 ``[N]``; not for multi-label runs."""
        return np.array([row.true[0] for row in self.predictions], dtype=np.int64)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The predicted index, likewise."""
        return np.array([row.predicted[0] for row in self.predictions], dtype=np.int64)

    @cached_property
    def probability(self) -> np.ndarray:
        """Probabilities of the predictions, ``[N]``."""
        return np.array([row.probability for row in self.predictions], dtype=np.float64)

    @cached_property
    def uncalibrated(self) -> np.ndarray:
        """The same before calibration; empty if unknown."""
        values = np.array([row.uncalibrated for row in self.predictions], dtype=np.float64)
        return values if np.isfinite(values).all() else values[:0]

    @cached_property
    def correct(self) -> np.ndarray:
        """Which predictions are correct, bool ``[N]``."""
        return np.array([not row.errors for row in self.predictions], dtype=bool)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """A row a class: images where it is predicted correctly, where it is true, and where it is predicted."""
        counts = np.zeros((len(self.classes), 3), dtype=np.int64)
        for row in self.predictions:
            for column, indices in enumerate(({*row.true} & {*row.predicted}, row.true, row.predicted)):
                counts[[*indices], column] += 1
        return counts

    @property
    def epochs(self) -> list[dict[str, float]]:
        """The rows of ``metrics.csv``."""
        return [row for _, rows in self.phases for row in rows]

    def curve(self, column: str) -> list[tuple[float, float]]:
        """Return the finite values of a column of ``metrics.csv``, as (epoch, value)."""
        return [(row["epoch"], row[column]) for row in self.epochs if math.isfinite(row[column])]

    def has_images(self) -> bool:
        """Return whether any of the predicted images lies where the recipe says."""
        return any(self.thumbnails.file(row.path) for row in self.predictions)

    def metric(self, name: str) -> float:
        """Return a metric of the predicted split or, failing that, of the run; NaN where it is absent."""
        value = self.metrics.get(f"{self.split}/{name}", self.metrics.get(name))
        return math.nan if value is None else float(value)

    def interval(self, name: str) -> tuple[float, float]:
        """Return a metric's 95% interval: Wilson's for the accuracy, for others the measured one; NaN where unknown."""
        if name != "acc1":
            return self.metric(f"{name}_low"), self.metric(f"{name}_high")
        accuracy, total = self.metric("acc1"), len(self.predictions)
        if not total or not math.isfinite(accuracy):
            return math.nan, math.nan
        return wilson_interval(round(accuracy * total), total)


def read_run(folder: Path, predictor: Predictor | None = None, moved: Mapping[str, str] | None = None) -> RunContents:
    """Read the files of a run folder.

    Args:
        folder: the run.
        predictor: its model, for Grad-CAM and training views; None leaves them out.
        moved: ``root`` and ``images`` of the recipe's section ``data``, where they have changed since.

    Raises:
        DataError: a file is missing or cannot be understood; the message names it.
    """
    run = Run(folder)
    recipe = _parsed(run.recipe, _recipe)
    metrics = _parsed(run.metrics, lambda text: dict(json.loads(text)))
    # Only a line feed ends a class name: splitlines would also cut at rarer separators inside one.
    classes: list[str] = _parsed(run.classes, lambda text: [line for line in text.split("\n") if line])
    multilabel = "val/map" in metrics
    places = {name: index for index, name in enumerate(classes)}
    numbers = [name.replace("acc1", "map") if multilabel else name for name in NUMBERS]

    def indices(cell: str) -> list[int]:
        return [places[name] for name in (filter(None, cell.split("|")) if multilabel else [cell])]

    def prediction(row: dict[str, str]) -> Prediction:
        true, predicted = indices(row["label"]), indices(row["prediction"])
        label, guess = (", ".join(classes[index] for index in listed) for listed in (true, predicted))
        probability = max((float(text) for text in row["probability"].split("|") if text), default=math.nan)
        uncalibrated = math.nan if multilabel else float(row.get("uncalibrated") or "nan")
        return Prediction(row["path"], true, predicted, label, guess, probability, uncalibrated)

    def epoch(row: dict[str, str]) -> tuple[str, dict[str, float]]:
        return f"{row['phase']} {row['train']}", {name: float(row[name] or "nan") for name in numbers}

    def member(row: dict[str, str]) -> tuple[str, str, list[int]]:
        return row["path"], row["split"], indices(row["labels" if multilabel else "label"])

    epochs, members = _rows(run.table, epoch), _rows(run.split, member)
    trained = dict.fromkeys(path for path, split, _ in members if split == "train")
    counted = [(split, labels) for path, split, labels in members if split != "val" or path not in trained]
    given = OmegaConf.merge(recipe, {"data": moved or {}})
    root, source, images = (OmegaConf.select(given, f"data.{key}") for key in ("root", "source", "images"))
    return RunContents(
        name=run.folder.resolve().name,
        recipe_text=_parsed(run.recipe, str),
        recipe=recipe,
        plan=_parsed(run.plan, lambda _: read_plan(run.plan)) if run.plan.is_file() else None,
        metrics=metrics,
        classes=classes,
        phases=[(label, [row for _, row in rows]) for label, rows in groupby(epochs, itemgetter(0))],
        predictions=_rows(run.predictions, prediction),
        split_counts=Counter((classes[index], split) for split, labels in counted for index in labels),
        image_count=len(counted),
        trained_on_val=len(counted) < len(members),
        training_paths=[path for path, split, _ in members if split == "train"],
        starts=_parsed(run.environment, _starts) if run.environment.is_file() else [],
        thumbnails=Thumbnails(None if root is None else image_root(source, str(root), images), predictor),
    )


def _recipe(text: str) -> Any:
    recipe = OmegaConf.load(io.StringIO(text))
    if faults := resolver_calls(OmegaConf.to_container(recipe)):
        raise ValueError(faults[0])
    return recipe


def _starts(text: str) -> list[dict[str, Any]]:
    starts: list[dict[str, Any]] = json.loads(text)
    machine = {"system", "processor", "cores", "memory", "accelerators"}
    if not all({"time", "versions"} <= start.keys() and machine <= start["machine"].keys() for start in starts):
        raise ValueError("a start lacks its time, versions or machine")
    return starts


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: give the folder of a finished training, or train again.") from error
    except (OSError, AttributeError, KeyError, TypeError, ValueError, YAMLError) as error:
        raise DataError(f"{path} cannot be understood ({error}): restore it or train again.") from error


def _rows(path: Path, convert: Callable[[dict[str, str]], RowT]) -> list[RowT]:
    rows = csv.DictReader(io.StringIO(_parsed(path, str), newline=""))
    try:
        return [
            convert({key: unescape_formula(cell) if isinstance(cell, str) else cell for key, cell in row.items()})
            for row in rows
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        what = f"no such column or class: {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}, line {rows.line_num}: {what}; restore the file or train again.") from error
