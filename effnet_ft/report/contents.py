"""What a report shows: the files of a run folder, read and counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from effnet_ft.evaluation.proportions import wilson_interval
from effnet_ft.recipe.plan import Plan
from effnet_ft.report.thumbnails import Thumbnails

SPLITS = {"train": "training", "val": "validation", "test": "test"}


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
    training_paths: Sequence[str] = ()  # paths of the training images, in their order
    plan: Plan | None = None  # of `plan.yaml`; runs of version 0.1 have none
    starts: Sequence[Mapping[str, Any]] = ()  # from `environment.json`, the first one first
    thumbnails: Thumbnails = field(default_factory=Thumbnails)  # reads the images

    @property
    def multilabel(self) -> bool:
        """Whether images have any number of labels."""
        return "val/map" in self.metrics

    @property
    def split(self) -> str:
        """The split that was predicted: test where there is one, else val."""
        return "test" if any(key.startswith("test/") for key in self.metrics) else "val"

    @property
    def split_name(self) -> str:
        """The same in words."""
        return SPLITS[self.split]

    @cached_property
    def true(self) -> np.ndarray:
        """The class index of each prediction, int64 ``[N]``; of images with one label each."""
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
        """The same before calibration; empty where they are not known."""
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
        """Return the epochs that have a value in a column of ``metrics.csv``, with it."""
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
