"""The headline numbers of a report and their intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from effnet_ft.results import report
from effnet_ft.results.report.headline import results, wilson
from effnet_ft.results.report.reading import read_run


def test_wilson_interval() -> None:
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662, and 0 of 20 gives 0 to 0.1611.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert all(np.isnan(wilson(0.5, 0)))


def test_headline_numbers(run: Path) -> None:
    html = results(read_run(run))
    assert "<dt>Test accuracy</dt><dd>57.1%</dd><dd>95% interval: 25.0% to 84.2%</dd><dd>top five: 100.0%</dd>" in html
    assert "4.2%" in html and "3 min 12 s" in html and "test, of 13 in all" in html


def test_run_without_test_split_says_validation(run: Path) -> None:
    metrics = {"val/acc1": 4 / 7, "val/macro_f1": 0.5, "val/ece": 0.04, "train_seconds": 3.0}
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    text = report.write_report(run).read_text(encoding="utf-8")
    assert "Validation accuracy" in text and "Test accuracy" not in text
    assert "of the validation images" in text and "7 validation images are mistaken" in text
    assert "top five" not in text
