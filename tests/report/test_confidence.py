"""Reliability and precision against coverage in a report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from report_run import section_html
from torchmetrics.functional.classification import binary_calibration_error

from effnet_ft.report.confidence import confidence, reliability_bins
from effnet_ft.report.contents import RunContents, read_run
from effnet_ft.report.formats import DASH
from effnet_ft.report.rendering import Section
from effnet_ft.report.thumbnails import Thumbnails


def confidence_html(contents: RunContents) -> str:
    return section_html(Section("", "confidence", confidence(contents)))


def test_bins_are_those_of_the_calibration_error() -> None:
    random = np.random.default_rng(0)
    probability, correct = random.uniform(size=500), random.uniform(size=500) < 0.7
    found = reliability_bins(probability, correct)
    error = sum(each.images * abs(each.accuracy - each.probability) for each in found) / 500
    expected = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(correct).long(), n_bins=15)
    assert error == pytest.approx(float(expected), abs=1e-6)
    assert reliability_bins(np.array([1.0]), np.array([True]))[0].high == 1.0


def test_thresholds_of_the_validation_images_are_kept_on_the_others(run: Path) -> None:
    # From 0.75 on 200 validation images were all right, which bears 98% out (0.05 ** (1 / 200) = 0.985), not 99%.
    record = {"thresholds": [0.75, 0.0], "answered": [200, 400], "right": [200, 200]}
    model = SimpleNamespace(model=SimpleNamespace(record=record))
    contents = replace(read_run(run), thumbnails=Thumbnails(None, model))  # type: ignore[arg-type]
    shown = confidence(contents)
    assert shown is not None and not shown["unreached"]
    texts = [[name, *(cell.text for cell in cells)] for name, cells in shown["targets"]]
    # Of the seven answers three have so much, and two of them are right.
    assert texts[2] == ["98.0%", "75.0%", "42.9%", "66.7%"]
    assert texts[3] == ["99.0%", DASH, DASH, DASH]


def test_few_validation_images_are_mentioned_instead_of_an_empty_table(run: Path) -> None:
    record = {"thresholds": [0.75], "answered": [22], "right": [22]}
    model = SimpleNamespace(model=SimpleNamespace(record=record))
    html = confidence_html(replace(read_run(run), thumbnails=Thumbnails(None, model)))  # type: ignore[arg-type]
    assert "No threshold reaches a precision of 90% on the validation images" in html
    assert "<table" not in html


def test_without_a_record_there_is_no_table(run: Path) -> None:
    html = confidence_html(read_run(run))
    assert "no temperature was fitted" in html and html.count("<svg") == 2 and "before calibration" not in html
    assert "<table" not in html


def test_a_training_writes_what_calibration_changed(trained_run: Path) -> None:
    contents = read_run(trained_run)
    assert len(contents.uncalibrated) == len(contents.predictions) and np.isfinite(contents.metric("temperature"))
    assert "before calibration" in confidence_html(contents)


def test_before_and_after(run: Path) -> None:
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (run / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "uncalibrated"])
        writer.writeheader()
        writer.writerows({**row, "uncalibrated": 0.99} for row in rows)
    metrics = json.loads((run / "metrics.json").read_text()) | {"temperature": 0.5, "test/ece_uncalibrated": 0.2}
    (run / "metrics.json").write_text(json.dumps(metrics))
    html = confidence_html(read_run(run))
    assert "temperature of 0.5" in html and "is 4.2%, without it 20.0%" in html
    assert "before calibration" in html and "7 predictions of 93% to 100%: mean 99.0%, 57.1% correct" in html
