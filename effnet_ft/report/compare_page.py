"""The page that puts runs side by side."""

from __future__ import annotations

import math
from html import escape

from effnet_ft.report.charts import Axes, figure
from effnet_ft.report.comparison import Comparison
from effnet_ft.report.contents import RunContents
from effnet_ft.report.html_formats import DASH, counted, picture, show, table

SHOWN = 48
SURE = 0.05  # a smaller p-value is taken for more than chance
LINES = 6  # kinds of lines that page.css tells apart


def compare_sections(comparison: Comparison) -> dict[str, str]:
    """Return the sections of the page by their titles."""
    sections = {
        "Results": _results(comparison),
        "Curves": _curves(comparison),
        "Recipes": _recipes(comparison),
    }
    if not comparison.fault:
        sections["Where they differ"] = _disagreements(comparison)
    return sections


def _results(comparison: Comparison) -> str:
    columns = comparison.columns
    rows = []
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        values = [column.value(run) for column in columns]
        rows.append((name, [(value, column.shown(value)) for column, value in zip(columns, values, strict=True)]))
    html = table(["run", *(column.title for column in columns)], rows)
    html += "<p>From and to: the 95% interval of the first figure.</p>"
    if comparison.fault:
        return f'{html}<p class="warning">{escape(comparison.fault[0].upper() + comparison.fault[1:])}.</p>'
    return html + _pairs(comparison)


def _pairs(comparison: Comparison) -> str:
    """McNemar's test of every two runs."""
    rows = []
    for pair in comparison.pairs:
        name = f"{comparison.names[pair.first]} and {comparison.names[pair.second]}"
        verdict = "more than chance" if pair.chance < SURE else "may be chance"
        cells = [
            (pair.only_first, show(pair.only_first)),
            (pair.only_second, show(pair.only_second)),
            (pair.chance, f"{pair.chance:.3g}"),
            (pair.chance, verdict),
        ]
        rows.append((name, cells))
    intro = "How many images one run of two alone answers rightly, and McNemar's exact test of the difference."
    head = ("runs", "only the first right", "only the second right", "p-value", "difference")
    return f"<p>{intro}</p>{table(head, rows)}"


def _curves(comparison: Comparison) -> str:
    """The runs' validation curves in one chart each."""
    score, title = ("map", "Mean average precision") if comparison.runs[0].multilabel else ("acc1", "Accuracy")
    charts = [_chart(comparison, f"{title} on validation images", f"val/{score}", "%")]
    charts += [_chart(comparison, "Loss on validation images", "val/loss", ".3g")]
    return f'<div class="charts">{"".join(charts)}</div>'


def _chart(comparison: Comparison, title: str, key: str, kind: str) -> str:
    curves = [_points(run, key) for run in comparison.runs]
    values = [value for points in curves for _, value in points] or [1.0]
    last = max((epoch for points in curves for epoch, _ in points), default=1.0)
    low, high = (math.floor(min(values) * 19.99) / 20, 1.0) if kind == "%" else (0.0, max(values) * 1.05 or 1.0)
    axes = Axes((0.5, last + 0.5), (low, high))
    step = math.ceil(last / 10)
    drawing = axes.grid(kind) + axes.labels(range(1, int(last) + 1, step), ".0f", "epoch")
    keys = []
    for number, (name, points) in enumerate(zip(comparison.names, curves, strict=True)):
        line = f"run{number % LINES}"
        tips = [f"{name}, epoch {epoch:.0f}: {value:.4g}" for epoch, value in points]
        drawing += axes.line(points, line, tips)
        keys.append((line, name))
    return figure(title, drawing, keys)


def _points(run: RunContents, key: str) -> list[tuple[float, float]]:
    rows = [row for _, epochs in run.phases for row in epochs]
    return [(row["epoch"], row[key]) for row in rows if math.isfinite(row[key])]


def _recipes(comparison: Comparison) -> str:
    """The keys whose values differ."""
    if not comparison.differences:
        return "<p>The recipes are the same.</p>"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("key", *comparison.names))
    body = ""
    for key, values in comparison.differences:
        cells = "".join(f"<td>{escape(value) or DASH}</td>" for value in values)
        body += f'<tr><th scope="row">{escape(key)}</th>{cells}</tr>'
    return f'<div class="scroll"><table class="data"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _disagreements(comparison: Comparison) -> str:
    """The images that the runs answer differently."""
    differing = comparison.disagreements
    total = len(comparison.answers)
    intro = f"The runs answer {counted(len(differing), 'image')} of {total:,} differently"
    intro += f"; {SHOWN} of them are shown." if len(differing) > SHOWN else "."
    html = ""
    for rows in differing[:SHOWN]:
        answers = "".join(
            f'<li class="{"wrong" if row.wrong else "right"}"><span>{escape(name)}</span> '
            f"{escape(row.prediction or DASH)}, {show(row.probability, '.1%')}</li>"
            for name, row in zip(comparison.names, rows, strict=True)
        )
        first = rows[0]
        shown = next((source for run in comparison.runs if (source := run.pictures.thumbnail(first.path))), "")
        html += f"<figure>{picture(shown)}<figcaption><b>{escape(first.label or DASH)}</b><ul>{answers}</ul>"
        html += f"<small>{escape(first.path)}</small></figcaption></figure>"
    return f'<p>{intro}</p><div class="mistakes answers">{html}</div>'
