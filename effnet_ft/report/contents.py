"""What a report shows: the files of a run folder, read and counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from effnet_ft.report.thumbnails import Thumbnails

SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Prediction:
    """A predicted image.

    Attributes:
        path: relative to the folder of the images.
        label: the true class; of several labels all of them, joined by commas.
        prediction: the predicted one, or those, likewise.
        probability: of the prediction, of several the highest; NaN where there is none.
        wrong: how many labels are missing or too many; of a single class 0 or 2.
    """

    path: str
    label: str
    prediction: str
    probability: float
    wrong: int


@dataclass(frozen=True)
class RunContents:
    """The files of a run.

    Attributes:
        name: of the run folder.
        recipe_text: ``recipe.yaml`` as it is written.
        recipe: the same, parsed.
        metrics: of ``metrics.json``.
        classes: names in the model's order.
        phases: the rows of ``metrics.csv`` under each phase's label, as "2 stage4".
        predictions: the rows of ``predictions.csv``.
        true: the class index of each prediction, int64 ``[N]``; empty where images have several labels.
        predicted: the predicted index, likewise.
        uncalibrated: probabilities of the predictions before calibration, ``[N]``; empty where they are not known.
        class_counts: a row a class: images where it is predicted correctly, where it is true, where it is predicted.
        split_counts: images by class and split.
        image_count: images of all splits.
        training_paths: paths of the training images, in their order.
        starts: what ``environment.json`` says of each start of the training, the first one first.
        thumbnails: reads the images.
    """

    name: str
    recipe_text: str
    recipe: Any
    metrics: Mapping[str, Any]
    classes: Sequence[str]
    phases: Sequence[tuple[str, list[dict[str, float]]]]
    predictions: Sequence[Prediction]
    true: np.ndarray
    predicted: np.ndarray
    uncalibrated: np.ndarray
    class_counts: np.ndarray
    split_counts: Counter[tuple[str, str]]
    image_count: int
    training_paths: Sequence[str] = ()
    starts: Sequence[Mapping[str, Any]] = ()
    thumbnails: Thumbnails = field(default_factory=Thumbnails)

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

    @property
    def probability(self) -> np.ndarray:
        """Probabilities of the predictions, ``[N]``."""
        return np.array([row.probability for row in self.predictions], dtype=np.float64)

    @property
    def correct(self) -> np.ndarray:
        """Which predictions are correct, bool ``[N]``."""
        return np.array([not row.wrong for row in self.predictions], dtype=bool)

    @property
    def mistakes(self) -> list[int]:
        """Indices of the mistakes: the most confident first, or of several labels those with the most wrong."""
        wrong = [index for index, row in enumerate(self.predictions) if row.wrong]
        rank = [row.wrong if self.multilabel else row.probability for row in self.predictions]
        return sorted(wrong, key=lambda index: -rank[index])

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
