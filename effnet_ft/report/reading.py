"""Reads a run folder for its report."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import OmegaConf
from yaml import YAMLError

from effnet_ft.data.sources.opening import image_root
from effnet_ft.errors import DataError
from effnet_ft.recipe.plain_yaml import resolver_calls
from effnet_ft.recipe.plan import Plan, read_plan
from effnet_ft.report.contents import Prediction, RunContents
from effnet_ft.report.thumbnails import Thumbnails
from effnet_ft.runs.run_folder import Run
from effnet_ft.utils.tables import unescape_formula

if TYPE_CHECKING:
    from effnet_ft.inference.predictor import Predictor

RowT = TypeVar("RowT")

TIMES = ("seconds", "images_per_second", "data_wait_fraction")
NUMBERS = ("epoch", "train/loss", "train/acc1", "val/loss", "val/acc1", *TIMES)
"""Columns of metrics.csv; `map` stands for `acc1` where images have several labels."""


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
        probability = max((float(text) for text in row["probability"].split("|") if text), default=float("nan"))
        uncalibrated = float("nan" if multilabel else row.get("uncalibrated") or "nan")
        return Prediction(row["path"], true, predicted, label, guess, probability, uncalibrated)

    def epoch(row: dict[str, str]) -> tuple[str, dict[str, float]]:
        return f"{row['phase']} {row['train']}", {name: float(row[name] or "nan") for name in numbers}

    def member(row: dict[str, str]) -> tuple[str, str, list[int]]:
        return row["path"], row["split"], indices(row["labels" if multilabel else "label"])

    members = _rows(run.split, member)
    return RunContents(
        name=run.folder.resolve().name,
        recipe_text=_parsed(run.recipe, str),
        recipe=recipe,
        plan=_plan(run.plan),
        metrics=metrics,
        classes=classes,
        phases=[
            (label, [row for _, row in rows]) for label, rows in groupby(_rows(run.table, epoch), lambda pair: pair[0])
        ],
        predictions=_rows(run.predictions, prediction),
        split_counts=Counter((classes[index], split) for _, split, labels in members for index in labels),
        image_count=len(members),
        training_paths=[path for path, split, _ in members if split == "train"],
        starts=_parsed(run.environment, _starts) if run.environment.is_file() else [],
        thumbnails=Thumbnails(_image_root(OmegaConf.merge(recipe, {"data": moved or {}})), predictor),
    )


def _plan(path: Path) -> Plan | None:
    """Return the run's plan, None of runs of version 0.1, which have none.

    Raises:
        DataError: where it cannot be understood.
    """
    try:
        return read_plan(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _starts(text: str) -> list[dict[str, Any]]:
    """Return the starts of environment.json, which hold what the page shows of them."""
    starts: list[dict[str, Any]] = json.loads(text)
    machine = {"system", "processor", "cores", "memory", "accelerators"}
    if not all({"time", "versions"} <= start.keys() and machine <= start["machine"].keys() for start in starts):
        raise ValueError("a start lacks its time, versions or machine")
    return starts


def _recipe(text: str) -> Any:
    recipe = OmegaConf.load(io.StringIO(text))
    if faults := resolver_calls(OmegaConf.to_container(recipe)):
        raise ValueError(faults[0])
    return recipe


def _image_root(recipe: Any) -> Path | None:
    """Return the folder of the images, as far as the recipe tells."""
    root = OmegaConf.select(recipe, "data.root")
    source, images = (OmegaConf.select(recipe, f"data.{key}") for key in ("source", "images"))
    return None if root is None else image_root(source, str(root), images)


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
