"""Scores and balance of the classes in a report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from effnet_ft.report.classes import class_balance, class_scores, classes
from effnet_ft.report.reading import read_run


def test_scores_of_classes(run: Path) -> None:
    # cat: 2 right of 4 guessed and 3 real; hostile: 1 of 2 and 2; =sum: 1 of 1 and 2; the last has no image at all.
    expected = [[2 / 4, 2 / 3, 4 / 7], [1 / 2, 1 / 2, 2 / 4], [1.0, 1 / 2, 2 / 3], [np.nan] * 3]
    data = read_run(run)
    assert data.tallies.tolist() == [[2, 3, 4], [1, 2, 2], [1, 2, 1], [0, 0, 0]]
    np.testing.assert_allclose(class_scores(data.tallies), expected)
    html = classes(read_run(run))
    assert "50.0%</td>" in html and "66.7%</td>" in html and "57.1%<span" in html
    assert "nan%" not in html


def test_class_balance(run: Path) -> None:
    html = class_balance(read_run(run))
    assert re.findall(r'data-value="(\d+)"', html) == [*"503", *"002", *"012", *"000"]
