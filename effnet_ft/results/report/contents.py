"""What a report shows: the files of a run folder, read and counted."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from yaml import YAMLError

from effnet_ft.errors import DataError

SPLITS = {"train": "training", "val": "validation", "test": "test"}
TIMES = ("seconds", "images_per_second", "data_wait_fraction")
NUMBERS = ("epoch", "train/loss", "train/acc1", "val/loss", "val/acc1", *TIMES)
"""Columns of metrics.csv; `map` stands for `acc1` where images have several labels."""


@dataclass(frozen=True)
class Contents:
    """What the page shows; `phases` has the rows of metrics.csv under each phase's label, as "2 stage4".

    `tallies` has a row a class: images where it is rightly predicted, where it is true, and where it is predicted.
    `confusion` is empty where images have several labels.
    """

    name: str
    recipe_text: str
    recipe: Any
    metrics: dict[str, Any]
    classes: list[str]
    phases: list[tuple[str, list[dict[str, float]]]]
    predictions: list[dict[str, Any]]
    confusion: np.ndarray
    tallies: np.ndarray
    split_counts: Counter[tuple[str, str]]
    images: int
    thumbnails: bool

    @property
    def multilabel(self) -> bool:
        """Whether images have any number of labels."""
        return "val/map" in self.metrics

    @property
    def split(self) -> str:
        """The split that was predicted: test where there is one, else val."""
        return "test" if any(key.startswith("test/") for key in self.metrics) else "val"

    def metric(self, name: str) -> float:
        """A metric of the predicted split or, failing that, of the run; NaN where it is absent."""
        value = self.metrics.get(f"{self.split}/{name}", self.metrics.get(name))
        return math.nan if value is None else float(value)


def read_run(run: Path, thumbnails: bool = True) -> Contents:
    """Read the files of a run folder.

    Raises:
        DataError: a file is missing or cannot be understood; the message names it.
    """
    recipe_text = _parsed(run / "recipe.yaml", str)
    recipe = _parsed(run / "recipe.yaml", lambda text: OmegaConf.load(io.StringIO(text)))
    metrics = _parsed(run / "metrics.json", lambda text: dict(json.loads(text)))
    # Only a line feed ends a class name: splitlines would also cut at rarer separators inside one.
    classes = _parsed(run / "classes.txt", lambda text: [line for line in text.split("\n") if line])
    # A CSV cell that a spreadsheet would take for a formula is guarded by an apostrophe; classes.txt has none.
    guarded = {f"'{name}": place for place, name in enumerate(classes) if name[0] in "=+-@"}
    places = guarded | {name: place for place, name in enumerate(classes)}
    multilabel = "val/map" in metrics
    numbers = [name.replace("acc1", "map") for name in NUMBERS] if multilabel else NUMBERS

    def epoch(row: dict[str, str]) -> tuple[str, dict[str, float]]:
        return f"{row['phase']} {row['train']}", {key: float(row[key] or "nan") for key in numbers}

    def known(cell: str) -> list[int]:
        names = [name for name in cell.split("|") if name] if multilabel else [cell]
        return [places[name] for name in names]

    tallies = np.zeros((len(classes), 3), dtype=np.int64)
    confusion = np.zeros((0, 0) if multilabel else (len(classes), len(classes)), dtype=np.int64)

    def prediction(row: dict[str, str]) -> dict[str, Any]:
        true, guessed = known(row["label"]), known(row["prediction"])
        tallies[sorted({*true} & {*guessed}), 0] += 1
        tallies[true, 1] += 1
        tallies[guessed, 2] += 1
        if not multilabel:
            confusion[true[0], guessed[0]] += 1
        shown = {
            key: ", ".join(classes[place] for place in at) for key, at in (("label", true), ("prediction", guessed))
        }
        surest = max((float(text) for text in row["probability"].split("|") if text), default=math.nan)
        return {"path": row["path"], "probability": surest, "wrong": len({*true} ^ {*guessed}), **shown}

    epochs = _rows(run / "metrics.csv", epoch)
    phases = [(label, [row for _, row in rows]) for label, rows in groupby(epochs, lambda pair: pair[0])]
    predictions = _rows(run / "predictions.csv", prediction)
    column = "labels" if multilabel else "label"
    members = _rows(run / "split.csv", lambda row: [(classes[at], row["split"]) for at in known(row[column])])
    counts = Counter(member for listed in members for member in listed)
    title = run.resolve().name
    return Contents(
        title,
        recipe_text,
        recipe,
        metrics,
        classes,
        phases,
        predictions,
        confusion,
        tallies,
        counts,
        len(members),
        thumbnails,
    )


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: give the folder of a finished training, or train again.") from error
    except (OSError, TypeError, ValueError, YAMLError) as error:
        raise DataError(f"{path} cannot be understood ({error}): restore it or train again.") from error


def _rows(path: Path, convert: Callable[[dict[str, str]], Any]) -> list[Any]:
    rows = csv.DictReader(io.StringIO(_parsed(path, str), newline=""))
    try:
        return [convert(row) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        what = f"no such column or class: {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}, line {rows.line_num}: {what}; restore the file or train again.") from error
