"""Compares runs, on a page: metrics, what differs between their recipes, and which images they predict differently."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from effnet_ft.errors import DataError
from effnet_ft.recipe.plan import decided_values
from effnet_ft.recipe.schema import flat_items
from effnet_ft.report.charts import Chart
from effnet_ft.report.contents import Prediction, RunContents, read_run
from effnet_ft.report.formats import TableCell, cell, duration, percent
from effnet_ft.report.learning_curves import curve_chart
from effnet_ft.report.rendering import Section, write_page

SIGNIFICANT = 0.05
STYLES = 6  # of lines in page.css


class RunPair(NamedTuple):
    """Two runs by their names, the images that only one of them predicts correctly, and McNemar's exact test."""

    first: str
    second: str
    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Runs that are compared."""

    names: Sequence[str]  # of the runs, each different
    runs: Sequence[RunContents]  # their contents
    mismatch: str = ""  # why their predictions cannot be compared image by image; empty where they can

    @property
    def metrics(self) -> list[dict[str, TableCell]]:
        """Each run's metrics by their titles; from and to are the interval of the first."""
        return [_metrics(run) for run in self.runs]

    @cached_property
    def differences(self) -> list[tuple[str, list[str]]]:
        """The recipes' keys whose values differ, with the value of each run; empty where a run has no such key."""
        recipes = [_settings(run) for run in self.runs]
        keys = dict.fromkeys(key for recipe in recipes for key in recipe if key != "run_dir")
        values = {key: [str(recipe.get(key, "")) for recipe in recipes] for key in keys}
        return [(key, each) for key, each in values.items() if len(set(each)) > 1]

    @cached_property
    def predictions(self) -> list[list[Prediction]]:
        """For each image, in the order of the first run, the predictions of all runs."""
        known = [{row.path: row for row in run.predictions} for run in self.runs]
        return [[rows[path] for rows in known] for path in known[0]]

    @cached_property
    def disagreements(self) -> list[list[Prediction]]:
        """The images that are predicted differently: first those that any run gets right, the most confident first."""
        differing = [rows for rows in self.predictions if len({row.prediction for row in rows}) > 1]

        def rank(rows: list[Prediction]) -> tuple[bool, float]:
            highest = max(row.probability for row in rows if math.isfinite(row.probability))
            return all(row.errors for row in rows), -highest

        return sorted(differing, key=rank)

    @cached_property
    def pairs(self) -> list[RunPair]:
        """Every two runs, with McNemar's test."""
        correct = np.array([[not row.errors for row in rows] for rows in self.predictions])
        found = []
        for (one, right), (other, other_right) in combinations(zip(self.names, correct.T, strict=True), 2):
            counts = int((right & ~other_right).sum()), int((other_right & ~right).sum())
            found.append(RunPair(one, other, *counts, mcnemar(*counts)))
        return found

    def thumbnail(self, path: str) -> str:
        """Return an image's data URI from the first run that can read it; empty where none can."""
        return next(filter(None, (run.thumbnails.thumbnail(path) for run in self.runs)), "")


def compare(folders: Sequence[Path]) -> Comparison:
    """Read runs to compare.

    Raises:
        DataError: where there are fewer than two, one cannot be read, or only some predict several labels an image.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise DataError("give two or more different run folders to compare")
    runs = [read_run(folder) for folder in folders]
    if len({run.multilabel for run in runs}) > 1:
        raise DataError("some runs predict one class an image, others any number of labels; they cannot be compared")
    return Comparison(short_names([str(folder) for folder in folders]), runs, _mismatch(runs))


def write_comparison(comparison: Comparison, target: Path) -> Path:
    """Write the page and return its path."""
    title, subtitle = " and ".join(comparison.names), f"Comparison of {len(comparison.runs)} runs"
    return write_page(target, "comparison.html", title, subtitle, comparison_sections(comparison))


def comparison_sections(comparison: Comparison) -> list[Section]:
    """Return the sections of the page; images are only compared where all runs were evaluated on the same ones."""
    score, title = comparison.runs[0].score
    charts = [_chart(comparison, f"Validation {title}", score), _chart(comparison, "Validation loss", "loss")]
    rows = [(name, [*metrics.values()]) for name, metrics in zip(comparison.names, comparison.metrics, strict=True)]
    metrics = {"head": ["run", *comparison.metrics[0]], "rows": rows}
    whole = {"comparison": comparison}
    return [
        Section("Results", "results", {**whole, "metrics": metrics, "pairs": _pairs(comparison)}),
        Section("Curves", "curves", {"charts": charts}),
        Section("Recipes", "recipes", whole),
        Section("Where they differ", "disagreements", None if comparison.mismatch else whole),
    ]


def _pairs(comparison: Comparison) -> dict[str, Any]:
    """Return the table of McNemar's test of every two runs."""
    rows = []
    for pair in [] if comparison.mismatch else comparison.pairs:
        verdict = "significant" if pair.p_value < SIGNIFICANT else "not significant"
        p_value = [TableCell(pair.p_value, text) for text in (f"{pair.p_value:.3g}", verdict)]
        rows.append((f"{pair.first} and {pair.second}", [cell(pair.only_first), cell(pair.only_second), *p_value]))
    return {"head": ("runs", "only first correct", "only second correct", "p-value", "difference"), "rows": rows}


def _chart(comparison: Comparison, title: str, column: str) -> Chart:
    curves = [
        (f"run{index % STYLES}", name, name, run.curve(f"val/{column}"))
        for index, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True))
    ]
    last = int(max((epoch for *_, points in curves for epoch, _ in points), default=1))
    return curve_chart(title, column, curves, range(1, last + 1), 0.05)


def _metrics(run: RunContents) -> dict[str, TableCell]:
    score, title = run.score
    low, high = run.interval(score)
    fractions = {title: run.metric(score), "from": low, "to": high, "macro F1": run.metric("macro_f1")}
    return {
        **{name: cell(value, percent) for name, value in fractions.items()},
        "calibration error": cell(run.metric("ece"), percent),
        "images": cell(len(run.predictions)),
        "trained in": cell(run.metric("train_seconds"), duration),
    }


def _mismatch(runs: Sequence[RunContents]) -> str:
    """Return why runs cannot be compared image by image; empty if they can."""
    first = {row.path: row.label for row in runs[0].predictions}
    for run in runs[1:]:
        other = {row.path: row.label for row in run.predictions}
        if first.keys() != other.keys():
            shared = len(first.keys() & other.keys())
            return (
                f"the runs were evaluated on different images: {runs[0].name} on {len(first):,}, {run.name} on "
                f"{len(other):,}, {shared:,} of them shared; their metrics do not tell which one is better"
            )
        if first != other:
            changed = sum(first[path] != other[path] for path in first)
            return f"the labels differ: {changed:,} of {len(first):,} between {run.name} and {runs[0].name}"
    return ""


def _settings(run: RunContents) -> dict[str, Any]:
    """Return the values of a run's recipe by dotted keys, and for ``auto`` what its plan decided."""
    settings = dict(flat_items(OmegaConf.to_container(run.recipe)))
    decided = decided_values(run.plan) if run.plan else {}
    return {key: decided.get(key, value) if value == "auto" else value for key, value in settings.items()}


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test from the images that only one of two models predicts correctly."""
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def short_names(paths: Sequence[str]) -> list[str]:
    """Return short names of paths: as many of their last parts as tell them apart."""
    parts = [Path(path).resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*each[-length:])) for each in parts]
        if len(set(names)) == len(names):
            break
    return names
