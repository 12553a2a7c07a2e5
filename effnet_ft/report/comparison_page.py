"""The page that compares runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from effnet_ft.report.charts import Chart
from effnet_ft.report.comparison import Comparison
from effnet_ft.report.formats import TableCell, number_cell
from effnet_ft.report.learning_curves import curve_chart
from effnet_ft.report.rendering import Section, render_page, write_page

SIGNIFICANT = 0.05
STYLES = 6
"""Styles of lines in page.css."""


def write_comparison(comparison: Comparison, target: Path) -> Path:
    """Write the page and return its path."""
    title, subtitle = " and ".join(comparison.names), f"Comparison of {len(comparison.runs)} runs"
    return write_page(render_page("comparison.html", title, subtitle, comparison_sections(comparison)), target)


def comparison_sections(comparison: Comparison) -> list[Section]:
    """Return the sections of the page; images are only compared where all runs were evaluated on the same ones."""
    score, title = ("map", "mean average precision") if comparison.runs[0].multilabel else ("acc1", "accuracy")
    charts = [_chart(comparison, f"Validation {title}", score), _chart(comparison, "Validation loss", "loss")]
    whole = {"comparison": comparison}
    return [
        Section("Results", "results", {**whole, "metrics": _metrics(comparison), "pairs": _pairs(comparison)}),
        Section("Curves", "curves", {"charts": charts}),
        Section("Recipes", "recipes", whole),
        Section("Where they differ", "disagreements", None if comparison.mismatch else whole),
    ]


def _metrics(comparison: Comparison) -> dict[str, Any]:
    rows = [(name, [*metrics.values()]) for name, metrics in zip(comparison.names, comparison.metrics, strict=True)]
    return {"head": ["run", *comparison.metrics[0]], "rows": rows}


def _pairs(comparison: Comparison) -> dict[str, Any]:
    """Return the table of McNemar's test of every two runs."""
    rows = []
    for pair in [] if comparison.mismatch else comparison.pairs:
        verdict = "significant" if pair.p_value < SIGNIFICANT else "not significant"
        p_value = [TableCell(pair.p_value, text) for text in (f"{pair.p_value:.3g}", verdict)]
        cells = [number_cell(pair.only_first), number_cell(pair.only_second), *p_value]
        rows.append((f"{pair.first} and {pair.second}", cells))
    return {"head": ("runs", "only first correct", "only second correct", "p-value", "difference"), "rows": rows}


def _chart(comparison: Comparison, title: str, column: str) -> Chart:
    curves = [
        (f"run{index % STYLES}", name, name, run.curve(f"val/{column}"))
        for index, (name, run) in enumerate(zip(comparison.names, comparison.runs, strict=True))
    ]
    last = int(max((epoch for *_, points in curves for epoch, _ in points), default=1))
    return curve_chart(title, column, curves, range(1, last + 1), 0.05)
