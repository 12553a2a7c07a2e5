"""A temperature that is found again, that small or perfect validation parts do not drive to 0, and that every way to a
probability goes through."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.evaluation.calibration import HIGHEST, LOWEST, fit_temperature
from effnet_ft.evaluation.metrics import calibration_error
from effnet_ft.models.classifier import Classifier
from effnet_ft.runs.run_folder import load_model


def drawn_labels(logits: np.ndarray, temperature: float, several: bool = False) -> np.ndarray:
    """Return labels that come as often as logits say that are divided by ``temperature``."""
    random = np.random.default_rng(1)
    if several:
        return (random.random(logits.shape) < 1 / (1 + np.exp(-logits / temperature))).astype(np.float32)
    noise = random.gumbel(size=logits.shape)
    return (logits / temperature + noise).argmax(1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("several", [False, True], ids=["classes", "labels"])
def test_the_temperature_of_drawn_labels_is_found(temperature: float, several: bool) -> None:
    logits = np.random.default_rng(0).normal(size=(4000, 6)).astype(np.float32) * 3
    labels = drawn_labels(logits, temperature, several)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.08)
    model = Classifier.empty("lite0", classes="abcdef", task="multi" if several else "single")
    before = calibration_error(model.probabilities(torch.from_numpy(logits)).numpy(), labels)
    model.temperature = found
    after = calibration_error(model.probabilities(torch.from_numpy(logits)).numpy(), labels)
    assert after < 0.02 and (temperature == 1 or after < before / 2)


def test_the_last_bits_of_logits_hardly_move_the_temperature() -> None:
    """Two processes round otherwise than one; with nine images a cost in float32 told them a ten-thousandth apart."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(9, 3)).astype(np.float32) * 2
    labels = drawn_labels(logits, 1.0)
    found = [fit_temperature(logits * np.float32(1 + n * 1e-7), labels) for n in range(10)]
    assert max(found) - min(found) < 1e-5


def test_answers_that_are_all_right_or_all_wrong_leave_a_temperature() -> None:
    logits = 5 * np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    # Of sure answers that are right, the likelihood alone would have 0 for the temperature; the prior has more.
    assert 2 * LOWEST < fit_temperature(logits, logits.argmax(1)) < 0.5
    assert 1 < fit_temperature(logits, logits.argmin(1)) <= HIGHEST
    assert LOWEST <= fit_temperature(logits / 100, logits.argmax(1)) < 1
    assert fit_temperature(logits[:0], logits[:0].argmax(1)) == 1


def test_the_model_and_its_description_hold_the_temperature() -> None:
    model = Classifier("lite0", classes="abc", temperature=0.5).eval()
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    torch.testing.assert_close(model.probabilities(logits), (2 * logits).softmax(1))
    torch.testing.assert_close(model.probabilities(logits, calibrated=False), logits.softmax(1))
    description = json.loads(json.dumps(model.describe()))
    assert Classifier.rebuild(description, model.state_dict()).temperature == 0.5
    del description["temperature"]  # as models were described before there was one
    assert Classifier.rebuild(description, model.state_dict()).temperature == 1


def test_a_run_is_calibrated_in_all_that_it_leaves(trained_run: Path, tmp_path: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    predictor = effnet_ft.load(trained_run)
    temperature = predictor.model.temperature
    assert temperature == metrics["temperature"] != 1
    assert load_model(trained_run / "checkpoints" / "last.ckpt").temperature == 1, "training goes on from bare logits"
    for part in ("val", "test"):
        assert metrics[f"{part}/ece"] != metrics[f"{part}/ece_uncalibrated"]
    image = np.zeros((70, 70, 3), np.uint8)
    (logits,) = predictor.logits([image])
    (row,) = predictor.probabilities([image])
    np.testing.assert_allclose(row, torch.from_numpy(logits / temperature).softmax(0), atol=1e-6)
    ours = tmp_path / "model.safetensors"
    assert main(["export", str(trained_run), "--format", "safetensors", "--out", str(ours)]) == 0
    exported = effnet_ft.load(ours)
    np.testing.assert_array_equal(exported.probabilities([image]), [row])
    assert exported.model.record == predictor.model.record


def test_a_temperature_that_stands_is_fitted_anew(trained_run: Path, flowers: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    before = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").unlink()
    assert main(["train", "folder", f"resume={run}"]) == 0
    after = json.loads((run / "metrics.json").read_text())
    measured = [key for key in before if "/" in key]
    assert [key for key in after if "/" in key] == measured
    # The first time some of them come from stored activations, now all from the images.
    assert [after[key] for key in measured] == pytest.approx([before[key] for key in measured], abs=1e-4)
    assert after["temperature"] == pytest.approx(before["temperature"], rel=1e-3)


def test_images_that_were_trained_on_fit_no_temperature(
    flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = "phases=[{train: head, epochs: 1, lr: 1e-2}]"
    arguments = [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", phases, "data.fit=trainval", *TINY]
    assert main(["train", "folder", *arguments]) == 0
    assert "temperature and abstention (predict --precision) not fitted" in capsys.readouterr().out
    page = re.sub(r"\s+", " ", (tmp_path / "run" / "report.html").read_text())
    assert "30 training images, the validation images among them, for all of its epochs" in page
    assert "test, of 36 in total" in page and ">Validation<" not in page
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "temperature" not in metrics and "test/ece_uncalibrated" not in metrics and "test/acc1_low" in metrics
    model = load_model(tmp_path / "run")
    assert (model.temperature, model.record) == (1, None)
    image = str(next((flowers / "tulip").iterdir()))
    assert main(["predict", str(tmp_path / "run"), image, "--precision", "0.9"]) == 2
    assert "no record of its confidence on validation images" in capsys.readouterr().err
