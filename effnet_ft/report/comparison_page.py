"""The page that compares runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from effnet_ft.report.charts import Chart, Series, Spot
from effnet_ft.report.comparison import Comparison
from effnet_ft.report.contents import Prediction
from effnet_ft.report.formats import number
from effnet_ft.report.learning_curves import curve_axis
from effnet_ft.report.rendering import Section, render_page, write_page
from effnet_ft.report.sortable_table import SortableTable, TableCell, cells

SHOWN = 48
"""Images predicted differently that the page shows at most."""

SIGNIFICANT = 0.05
STYLES = 6
"""Styles of lines in page.css."""


@dataclass(frozen=True)
class Disagreements:
    """The images predicted differently: their number, that of all, and those shown, each with a thumbnail."""

    names: list[str]
    count: int
    total: int
    images: list[tuple[str, list[Prediction]]]


def write_comparison(comparison: Comparison, target: Path) -> Path:
    """Write the page and return its path."""
    title, subtitle = " and ".join(comparison.names), f"Comparison of {len(comparison.runs)} runs"
    return write_page(render_page("comparison.html", title, subtitle, comparison_sections(comparison)), target)


def comparison_sections(comparison: Comparison) -> list[Section]:
    """Return the sections of the page."""
    return [
        Section("Results", "results", (_results(comparison), comparison.mismatch, _pairs(comparison))),
        Section("Curves", "curves", _curves(comparison)),
        Section("Recipes", "recipes", comparison),
        Section("Where they differ", "disagreements", _disagreements(comparison)),
    ]


def _results(comparison: Comparison) -> SortableTable:
    columns = comparison.columns
    formats = [column.show for column in columns]
    rows = [
        (name, cells([column.value(run) for column in columns], formats))
        for name, run in zip(comparison.names, comparison.runs, strict=True)
    ]
    return SortableTable(["run", *(column.title for column in columns)], rows)


def _pairs(comparison: Comparison) -> SortableTable | None:
    """Return McNemar's test of every two runs; None where they were evaluated on different images."""
    if comparison.mismatch:
        return None
    rows = []
    for pair in comparison.pairs:
        name = f"{comparison.names[pair.first]} and {comparison.names[pair.second]}"
        counts = cells((pair.only_first, pair.only_second), (number, number))
        verdict = "significant" if pair.p_value < SIGNIFICANT else "not significant"
        rows.append((name, [*counts, TableCell(pair.p_value, f"{pair.p_value:.3g}"), TableCell(pair.p_value, verdict)]))
    return SortableTable(("runs", "only first correct", "only second correct", "p-value", "difference"), rows)


def _curves(comparison: Comparison) -> list[Chart]:
    score, title = ("map", "Mean average precision") if comparison.runs[0].multilabel else ("acc1", "Accuracy")
    return [_chart(comparison, f"Validation {title.lower()}", score), _chart(comparison, "Validation loss", "loss")]


def _chart(comparison: Comparison, title: str, column: str) -> Chart:
    series = []
    for index, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True)):
        points = run.curve(f"val/{column}")
        spots = [Spot(x, y, f"{name}, epoch {x:.0f}: {y:.4g}") for x, y in points]
        series.append(Series(f"run{index % STYLES}", name, points, spots))
    last = int(max((x for each in series for x, _ in each.points), default=1))
    y_range, y_ticks = curve_axis(series, column, 0.05)
    x_ticks = [(float(epoch), f"{epoch}") for epoch in range(1, last + 1, math.ceil(last / 10))]
    return Chart(title, "epoch", (0.5, last + 0.5), y_range, x_ticks, y_ticks, series)


def _disagreements(comparison: Comparison) -> Disagreements | None:
    """Return the images predicted differently; None where the runs were evaluated on different images."""
    if comparison.mismatch:
        return None
    differing = comparison.disagreements
    images = []
    for rows in differing[:SHOWN]:
        thumbnails = (run.thumbnails.thumbnail(rows[0].path) for run in comparison.runs)
        images.append((next(filter(None, thumbnails), ""), rows))
    return Disagreements([*comparison.names], len(differing), len(comparison.predictions), images)
