"""Scores and balance of the classes in a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from report_run import section_html

from effnet_ft.report.contents import read_run
from effnet_ft.report.rendering import Section
from effnet_ft.report.run_page import class_balance, class_scores, per_class


def test_scores_of_classes(run: Path) -> None:
    # cat: 2 right of 4 guessed and 3 real; hostile: 1 of 2 and 2; =sum: 1 of 1 and 2; the last has no image at all.
    expected = [[2 / 4, 2 / 3, 4 / 7], [1 / 2, 1 / 2, 2 / 4], [1.0, 1 / 2, 2 / 3], [np.nan] * 3]
    data = read_run(run)
    assert data.class_counts.tolist() == [[2, 3, 4], [1, 2, 2], [1, 2, 1], [0, 0, 0]]
    np.testing.assert_allclose(class_scores(data.class_counts), expected)
    html = section_html(Section("", "table", per_class(data)))
    assert "50.0%</td>" in html and "66.7%</td>" in html and "57.1%<span" in html
    assert "nan%" not in html


def test_class_balance(run: Path) -> None:
    table = class_balance(read_run(run))
    values = [[cell.value for cell in cells] for _, cells in table["rows"]]
    assert values == [[5, 0, 3], [0, 0, 2], [0, 1, 2], [0, 0, 0]]
