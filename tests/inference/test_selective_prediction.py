"""Answers only where they are right often enough: the curve, the threshold, the record, and what a user is told."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.errors import DataError
from effnet_ft.inference.selective_prediction import confidence_record, confidence_threshold, precision_coverage
from effnet_ft.runs.run_folder import Run, load_model, update_description


def test_the_curve_counts_by_hand_and_takes_equal_confidences_together() -> None:
    confidences = np.array([0.5, 0.9, 0.7, 0.9, 0.7, 0.2])
    right = np.array([False, True, True, True, False, True])
    thresholds, precision, coverage = precision_coverage(confidences, right)
    assert thresholds.tolist() == pytest.approx([0.8, 0.6, 0.35, 0.0])
    assert precision.tolist() == pytest.approx([2 / 2, 3 / 4, 3 / 5, 4 / 6])
    assert coverage.tolist() == pytest.approx([2 / 6, 4 / 6, 5 / 6, 1])
    for threshold, share, covered in zip(thresholds, precision, coverage, strict=True):
        taken = confidences >= threshold
        assert (right[taken].mean(), taken.mean()) == (pytest.approx(share), pytest.approx(covered))
    assert [values.tolist() for values in precision_coverage(confidences[:0], right[:0])] == [[], [], []]


def answers(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated probabilities of three classes, and labels that come as often as they say."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 3)).astype(np.float32) * 3
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    return probabilities, (logits + random.gumbel(size=logits.shape)).argmax(1)


@pytest.mark.parametrize("count", [1000, 5000])
@pytest.mark.parametrize("precision", [0.9, 0.95])
def test_the_threshold_keeps_its_promise_on_other_images(count: int, precision: float) -> None:
    fresh, labels = answers(100_000, seed=100)
    confidences, right = fresh.max(1), fresh.argmax(1) == labels
    kept, covered = [], []
    for seed in range(40):
        taken = confidences >= confidence_threshold(confidence_record(*answers(count, seed)), precision)
        kept.append(right[taken].mean() >= precision)
        covered.append(taken.mean())
    assert np.mean(kept) >= 0.95  # a threshold chosen by the share itself keeps it half of the time
    thresholds, shares, _ = precision_coverage(confidences, right)
    best = (confidences >= thresholds[np.flatnonzero(shares >= precision)[-1]]).mean()
    assert np.mean(covered) > (0.65 if count == 1000 else 0.8) * best


@pytest.mark.parametrize("count", [100, 340, 2000])
@pytest.mark.parametrize("precision", [0.9, 0.95])
def test_a_precision_that_is_missed_everywhere_is_seldom_vouched_for(count: int, precision: float) -> None:
    """The hardest case: just too few predictions are right, and confidence says nothing about which."""
    thresholds, answered = np.linspace(1, 0, count).tolist(), np.arange(1, count + 1).tolist()
    found = 0
    for seed in range(400):
        right = (np.random.default_rng(seed).random(count) < precision - 0.001).cumsum().tolist()
        try:
            confidence_threshold({"thresholds": thresholds, "answered": answered, "right": right}, precision)
        except DataError:
            continue
        found += 1
    assert found / 400 < 0.08, "one in twenty is promised; the lowest of all thresholds that pass alone gives a quarter"


def test_no_threshold_passes_that_fails_alone() -> None:
    record = {"thresholds": [0.5, 0.0], "answered": [90, 100], "right": [90, 90]}
    sure, all_of_them = (
        binomtest(90, answered, alternative="greater").proportion_ci(0.95, "exact").low for answered in (90, 100)
    )
    assert confidence_threshold(record, all_of_them - 0.03) == 0.0
    assert confidence_threshold(record, all_of_them + 1e-6) == confidence_threshold(record, sure - 0.02) == 0.5
    with pytest.raises(DataError, match=r"90 of 100 validation images .* support at most 0\.9[0-6]"):
        confidence_threshold(record, sure + 1e-6)
    with pytest.raises(DataError, match=r"between 0 and 1, such as 0\.95"):
        confidence_threshold(record, 95)
    with pytest.raises(DataError, match="no record"):
        confidence_threshold(None, 0.9)


def test_a_record_of_many_images_is_short_and_tells_the_same() -> None:
    probabilities, labels = answers(20_000, seed=3)
    record = confidence_record(probabilities, labels)
    confidences = probabilities.max(1).astype(np.float64)  # thresholds lie between neighbours in 32 bits
    assert len(json.dumps(record)) < 50_000 and record["answered"][-1] == 20_000
    assert record["right"][-1] == (probabilities.argmax(1) == labels).sum()
    for threshold, answered, right in zip(record["thresholds"], record["answered"], record["right"], strict=True):
        taken = confidences >= threshold
        assert (taken.sum(), (probabilities.argmax(1) == labels)[taken].sum()) == (answered, right)


@pytest.fixture
def vouching_run(trained_run: Path, flowers: Path, tmp_path: Path) -> tuple[Path, list[Path], float]:
    """A run whose record lets it answer about half of the images at 0.9; the images; and the threshold."""
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    images = sorted(flowers.glob("*/*.jpg"))[:12]
    confidences = effnet_ft.load(run).probabilities(images).max(1)
    threshold = float(np.sort(confidences)[5:7].mean())
    model = load_model(run)
    model.record = {"thresholds": [threshold, 0.0], "answered": [100, 200], "right": [100, 120]}
    update_description(Run(run).best, model)
    return run, images, threshold


def test_predict_abstains_below_the_threshold(
    vouching_run: tuple[Path, list[Path], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, images, threshold = vouching_run
    predictor = effnet_ft.load(run)
    plain = predictor.predict(images, top_k=2)
    expected = [row if row[0][1] >= threshold else [] for row in plain]
    assert predictor.predict(images, top_k=2, precision=0.9) == expected
    assert sum(not row for row in expected) == 6
    out = tmp_path / "out.csv"
    command = ["predict", str(run), *map(str, images), "--top-k", "2", "--out", str(out)]
    assert main([*command, "--precision", "0.9"]) == 0
    told = capsys.readouterr()
    assert "answered 6 of 12 images" in told.err and "abstained from 6" in told.err
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == ["path", "prediction", "probability", "prediction_2", "probability_2", "abstained"]
    for row, answer, whole in zip(rows, expected, plain, strict=True):
        assert float(row["probability"]) == pytest.approx(whole[0][1], abs=1e-5)
        if answer:
            assert (row["prediction"], row["prediction_2"], row["abstained"]) == (answer[0][0], answer[1][0], "")
        else:
            assert (row["prediction"], row["prediction_2"], row["probability_2"]) == ("", "", "")
            assert row["abstained"] == "abstain"
    assert main(command) == 0
    assert "abstain" not in out.read_text() + capsys.readouterr().err


def test_a_precision_that_few_images_cannot_bear_out(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next((flowers / "tulip").iterdir()))
    out = tmp_path / "out.csv"
    assert main(["predict", str(trained_run), image, "--precision", "0.99", "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert "cannot be guaranteed" in message and "of 6 validation images" in message and not out.exists()
