"""Learning curves and times of a report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_run import EPOCH_COLUMNS, EPOCHS, section_html, write_csv

from effnet_ft import report
from effnet_ft.report.charts import percent_ticks
from effnet_ft.report.contents import read_run
from effnet_ft.report.formats import DASH
from effnet_ft.report.learning_curves import learning_curves, times
from effnet_ft.report.rendering import Section


def test_curves_mark_the_phases_and_bridge_gaps(run: Path) -> None:
    html = section_html(Section("", "learning_curves", learning_curves(read_run(run))))
    assert html.count(">1 head<") == html.count(">2 stage4<") == 2
    assert html.count('class="phase"') == 4
    assert [len(points.split()) for points in re.findall(r'points="([^"]*)"', html)] == [3, 2, 3, 2]
    assert "nan" not in html and "validation 70.0%" in html


@pytest.mark.parametrize("epochs", [[], EPOCHS[:1]])
def test_few_epochs(run: Path, epochs: list[tuple[object, ...]]) -> None:
    write_csv(run / "metrics.csv", EPOCH_COLUMNS, *epochs)
    text = report.write_report(run).read_text()
    assert "nan" not in text.split('id="learning-curves"')[1].split("</section>")[0]


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, "0% 25% 50% 75% 100%"),
        (0.75, 0.85, "75.0% 77.5% 80.0% 82.5% 85.0%"),
        (0.901, 0.912, "90.25% 90.50% 90.75% 91.00%"),
    ],
)
def test_ticks_are_labelled_with_their_value(low: float, high: float, labels: str) -> None:
    ticks = percent_ticks(low, high)
    assert " ".join(label for _, label in ticks) == labels
    assert [float(label[:-1]) / 100 for _, label in ticks] == pytest.approx([value for value, _ in ticks])


def test_times_of_phases_and_run(run: Path) -> None:
    assert [[cell.text for cell in cells] for _, cells in times(read_run(run))["rows"]] == [
        ["1", "10.0 s", "50", "10.0%"],
        ["2", "40.0 s", "100", "20.0%"],
        [DASH, "2 min 22 s", DASH, DASH],  # what the phases' steps leave of the whole
        ["3", "3 min 12 s", "90", "20.0%"],
    ]
