"""Reliability and precision against coverage in a report."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from report_run import HOSTILE, write_predictions
from torchmetrics.functional.classification import binary_calibration_error

from effnet_ft.results.report.confidence import bins, confidence
from effnet_ft.results.report.formats import DASH
from effnet_ft.results.report.reading import read_run


def test_bins_are_those_of_the_calibration_error() -> None:
    random = np.random.default_rng(0)
    probability, right = random.uniform(size=500), random.uniform(size=500) < 0.7
    found = bins(probability, right)
    error = sum(each.count * abs(each.right - each.probability) for each in found) / 500
    expected = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(right).long(), n_bins=15)
    assert error == pytest.approx(float(expected), abs=1e-6)
    assert bins(np.array([1.0]), np.array([True]))[0].high == 1.0


def test_targets_that_are_never_reached_have_no_threshold(run: Path) -> None:
    html = confidence(read_run(run))  # the surest answer is wrong, and of all at most two thirds are right
    assert html.count(f">{DASH}</td>") == 3 * 5
    assert "no temperature was fitted" in html and html.count("<svg") == 2 and "before calibration" not in html


def test_targets_are_reached_by_the_surest(run: Path) -> None:
    write_predictions(run, [("cat", "cat", 0.9, "1"), ("cat", "cat", 0.8, "2"), ("cat", HOSTILE, 0.7, "3")])
    html = confidence(read_run(run))
    assert html.count('>80.0%</td><td data-value="0.666667">66.7%</td>') == 5


def test_before_and_after(run: Path) -> None:
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (run / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "uncalibrated"])
        writer.writeheader()
        writer.writerows({**row, "uncalibrated": 0.99} for row in rows)
    metrics = json.loads((run / "metrics.json").read_text()) | {"temperature": 0.5, "test/ece_uncalibrated": 0.2}
    (run / "metrics.json").write_text(json.dumps(metrics))
    html = confidence(read_run(run))
    assert "temperature of 0.5" in html and "is 4.2%, without it 20.0%" in html
    assert "before calibration" in html and "7 answers of 93% to 100%: mean 99.0%, 57.1% right" in html
