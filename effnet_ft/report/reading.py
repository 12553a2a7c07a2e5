"""Reads a run folder for its report."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf
from yaml import YAMLError

from effnet_ft.data.sources.manifest import image_folder
from effnet_ft.errors import DataError
from effnet_ft.recipe.plain_yaml import resolver_calls
from effnet_ft.report.contents import Prediction, RunContents
from effnet_ft.report.thumbnails import Thumbnails
from effnet_ft.runs.run_folder import Run
from effnet_ft.utils.tables import unguarded

if TYPE_CHECKING:
    from effnet_ft.inference.predictor import Predictor

TIMES = ("seconds", "images_per_second", "data_wait_fraction")
NUMBERS = ("epoch", "train/loss", "train/acc1", "val/loss", "val/acc1", *TIMES)
"""Columns of metrics.csv; `map` stands for `acc1` where images have several labels."""


def read_run(folder: Path, predictor: Predictor | None = None, moved: Mapping[str, str] | None = None) -> RunContents:
    """Read the files of a run folder.

    Args:
        folder: the run.
        predictor: its model, to explain answers; None explains none.
        moved: ``root`` and ``images`` of the recipe's section ``data``, where they have changed since.

    Raises:
        DataError: a file is missing or cannot be understood; the message names it.
    """
    run = Run(folder)
    recipe_text = _parsed(run.recipe, str)
    recipe = _parsed(run.recipe, _recipe)
    metrics = _parsed(run.metrics, lambda text: dict(json.loads(text)))
    # Only a line feed ends a class name: splitlines would also cut at rarer separators inside one.
    classes: list[str] = _parsed(run.classes, lambda text: [line for line in text.split("\n") if line])
    multilabel = "val/map" in metrics
    known = _class_finder(classes, multilabel)
    tallies = np.zeros((len(classes), 3), dtype=np.int64)
    places: list[tuple[int, int]] = []
    raw: list[float] = []

    def prediction(row: dict[str, str]) -> Prediction:
        true, guessed = known(row["label"]), known(row["prediction"])
        tallies[sorted({*true} & {*guessed}), 0] += 1
        tallies[true, 1] += 1
        tallies[guessed, 2] += 1
        if not multilabel:
            places.append((true[0], guessed[0]))
            raw.extend([float(row["uncalibrated"])] if row.get("uncalibrated") else [])
        label, guess = (", ".join(classes[place] for place in at) for at in (true, guessed))
        surest = max((float(text) for text in row["probability"].split("|") if text), default=float("nan"))
        return Prediction(row["path"], label, guess, surest, len({*true} ^ {*guessed}))

    numbers = [name.replace("acc1", "map") for name in NUMBERS] if multilabel else NUMBERS

    def epoch(row: dict[str, str]) -> tuple[str, dict[str, float]]:
        return f"{row['phase']} {row['train']}", {key: float(row[key] or "nan") for key in numbers}

    epochs = _rows(run.table, epoch)
    predictions: list[Prediction] = _rows(run.predictions, prediction)
    column = "labels" if multilabel else "label"
    training: list[str] = []

    def member(row: dict[str, str]) -> list[tuple[str, str]]:
        training.extend([row["path"]] if row["split"] == "train" else [])
        return [(classes[at], row["split"]) for at in known(row[column])]

    members: list[list[tuple[str, str]]] = _rows(run.split, member)
    true, guessed = np.array(places, dtype=np.int64).reshape(-1, 2).T
    return RunContents(
        name=run.folder.resolve().name,
        recipe_text=recipe_text,
        recipe=recipe,
        metrics=metrics,
        classes=classes,
        phases=[(label, [row for _, row in rows]) for label, rows in groupby(epochs, lambda pair: pair[0])],
        predictions=predictions,
        true=true,
        guessed=guessed,
        raw=np.array(raw if len(raw) == len(predictions) else [], dtype=np.float64),
        tallies=tallies,
        split_counts=Counter(member for listed in members for member in listed),
        images=len(members),
        training=training,
        starts=_parsed(run.environment, _starts) if run.environment.is_file() else [],
        pictures=Thumbnails(_image_root(OmegaConf.merge(recipe, {"data": moved or {}})), predictor),
    )


def _class_finder(classes: list[str], multilabel: bool) -> Callable[[str], list[int]]:
    """Return what turns a cell into the indices of its classes; an unknown name is a KeyError."""
    places = {name: place for place, name in enumerate(classes)}

    def known(cell: str) -> list[int]:
        names = [name for name in cell.split("|") if name] if multilabel else [cell]
        return [places[name] for name in names]

    return known


def _starts(text: str) -> list[dict[str, Any]]:
    """Return the starts of environment.json, which hold what the page shows of them."""
    starts: list[dict[str, Any]] = json.loads(text)
    machine = {"system", "processor", "cores", "memory", "accelerators"}
    if not all({"time", "versions"} <= start.keys() and machine <= start["machine"].keys() for start in starts):
        raise ValueError("a start says no time, versions or machine")
    return starts


def _image_root(recipe: Any) -> Path | None:
    """Return the folder of the images, as far as the recipe tells."""
    root = OmegaConf.select(recipe, "data.root")
    if root is None:
        return None
    if OmegaConf.select(recipe, "data.source") == "manifest":
        return image_folder(Path(str(root)).expanduser(), OmegaConf.select(recipe, "data.images"))
    return Path(str(root)).expanduser()


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: give the folder of a finished training, or train again.") from error
    except (OSError, AttributeError, KeyError, TypeError, ValueError, YAMLError) as error:
        raise DataError(f"{path} cannot be understood ({error}): restore it or train again.") from error


def _recipe(text: str) -> Any:
    recipe = OmegaConf.load(io.StringIO(text))
    if faults := resolver_calls(OmegaConf.to_container(recipe)):
        raise ValueError(faults[0])
    return recipe


def _rows(path: Path, convert: Callable[[dict[str, str]], Any]) -> list[Any]:
    rows = csv.DictReader(io.StringIO(_parsed(path, str), newline=""))
    try:
        return [
            convert({key: unguarded(cell) if isinstance(cell, str) else cell for key, cell in row.items()})
            for row in rows
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        what = f"no such column or class: {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}, line {rows.line_num}: {what}; restore the file or train again.") from error
