"""Runs side by side: what differs between their recipes, and on which images their answers do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from effnet_ft.errors import DataError
from effnet_ft.report.contents import Prediction, RunContents
from effnet_ft.report.headline import bounds
from effnet_ft.report.html_formats import duration, show
from effnet_ft.report.reading import read_run

OWN_KEYS = ("run_dir",)
"""Keys of a recipe that differ between any two runs."""


@dataclass(frozen=True)
class Column:
    """A metric that runs are compared by.

    Attributes:
        title: for people.
        value: of a run; NaN where it has none.
        shown: the number as text.
    """

    title: str
    value: Callable[[RunContents], float]
    shown: Callable[[float], str]


@dataclass(frozen=True)
class Pair:
    """Two runs on the same images.

    Attributes:
        first: the number of the one run.
        second: the number of the other.
        only_first: images that the first run alone answers rightly.
        only_second: images that the second run alone does.
        chance: how likely so uneven numbers are where both runs are as good: the p-value of McNemar's exact test.
    """

    first: int
    second: int
    only_first: int
    only_second: int
    chance: float


@dataclass(frozen=True)
class Comparison:
    """Runs that are compared.

    Attributes:
        names: of the runs, each different.
        runs: their contents.
        fault: why their answers cannot be compared image by image; empty where they can.
    """

    names: Sequence[str]
    runs: Sequence[RunContents]
    fault: str = ""

    @property
    def columns(self) -> list[Column]:
        """The metrics."""
        score, title = ("map", "mean average precision") if self.runs[0].multilabel else ("acc1", "accuracy")
        percent: Callable[[float], str] = lambda value: show(value, ".1%")  # noqa: E731
        return [
            Column(title, lambda run: run.metric(score), percent),
            Column("from", lambda run: bounds(run, score)[0], percent),
            Column("to", lambda run: bounds(run, score)[1], percent),
            Column("macro F1", lambda run: run.metric("macro_f1"), percent),
            Column("calibration error", lambda run: run.metric("ece"), percent),
            Column("images", lambda run: len(run.predictions), show),
            Column("trained in", lambda run: run.metric("train_seconds"), duration),
        ]

    @cached_property
    def differences(self) -> list[tuple[str, list[str]]]:
        """The recipes' keys whose values differ, with the value of each run; empty where a run has no such key."""
        recipes = [flat(OmegaConf.to_container(run.recipe)) for run in self.runs]
        keys = dict.fromkeys(key for recipe in recipes for key in recipe if key not in OWN_KEYS)
        values = {key: [str(recipe.get(key, "")) for recipe in recipes] for key in keys}
        return [(key, each) for key, each in values.items() if len(set(each)) > 1]

    @cached_property
    def answers(self) -> list[list[Prediction]]:
        """For each image, in the order of the first run, the answers of all runs."""
        known = [{row.path: row for row in run.predictions} for run in self.runs]
        return [[rows[path] for rows in known] for path in known[0]]

    @cached_property
    def disagreements(self) -> list[list[Prediction]]:
        """The images whose answers differ: first those that some runs answer rightly, the surest ones first."""
        differing = [rows for rows in self.answers if len({row.prediction for row in rows}) > 1]

        def rank(rows: list[Prediction]) -> tuple[bool, float]:
            surest = max(row.probability for row in rows if math.isfinite(row.probability))
            return not any(row.wrong == 0 for row in rows), -surest

        return sorted(differing, key=rank)

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every two runs, with McNemar's test."""
        right = np.array([[row.wrong == 0 for row in rows] for rows in self.answers])
        found = []
        for first, second in combinations(range(len(self.runs)), 2):
            counts = (int((right[:, a] & ~right[:, b]).sum()) for a, b in ((first, second), (second, first)))
            only_first, only_second = counts
            found.append(Pair(first, second, only_first, only_second, mcnemar(only_first, only_second)))
        return found


def compare(folders: Sequence[Path]) -> Comparison:
    """Read runs to compare.

    Raises:
        DataError: where there are fewer than two, one cannot be read, or they do not tell the same of an image.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise DataError("name two runs or more, each once: there is nothing else to compare")
    runs = [read_run(folder) for folder in folders]
    if len({run.multilabel for run in runs}) > 1:
        raise DataError("some of the runs tell one class an image, others any number of labels: compare like with like")
    return Comparison(distinct([str(folder) for folder in folders]), runs, _fault(runs))


def _fault(runs: Sequence[RunContents]) -> str:
    """Return why runs cannot be compared image by image, an empty text where they can."""
    first = {row.path: row.label for row in runs[0].predictions}
    for run in runs[1:]:
        other = {row.path: row.label for row in run.predictions}
        shared = len(first.keys() & other.keys())
        if first.keys() != other.keys():
            return (
                f"the runs were measured on different images: {runs[0].name} on {len(first):,}, {run.name} on "
                f"{len(other):,}, {shared:,} of them the same; their figures say little about which one is better"
            )
        if first != other:
            changed = sum(first[path] != other[path] for path in first)
            return f"the labels differ: {changed:,} of {len(first):,} are others in {run.name} than in {runs[0].name}"
    return ""


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test from the images that one of two models alone answers rightly."""
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def distinct(paths: Sequence[str]) -> list[str]:
    """Return short names of paths: as many of their last parts as tell them apart."""
    parts = [Path(path).resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*each[-length:])) for each in parts]
        if len(set(names)) == len(names):
            break
    return names


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return nested dictionaries and lists as one dictionary by dotted keys."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if entries is None:
        return {key: value}
    return {name: part for at, each in entries for name, part in flat(each, f"{key}.{at}" if key else str(at)).items()}
