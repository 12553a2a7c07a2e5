"""Run folders that version 0.1 left: a finished one is used as before, an interrupted one goes on to its end.

The archives hold what that version wrote; only the values of weights were replaced by a few numbers, so that they are
small: the answers tell the classes apart by their brightness.
"""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import pytest
from legacy_images import CLASSES, make_images

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.recipe.plan import read_plan
from effnet_ft.runs.run_folder import Run


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images``, the finished ``run``, and the ``unfinished`` one."""
    folder = tmp_path_factory.mktemp("legacy")
    make_images(folder / "images")
    for name in ("run", "unfinished"):
        with tarfile.open(Path(__file__).with_name(f"legacy_{name}.tar.xz")) as archive:
            archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(autouse=True)
def in_it(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there)


ANSWERS = {"coral/00": 0.3895, "coral/02": 0.4225, "moss/01": 0.3638, "slate/03": 0.3552}
"""Probabilities by version 0.1 of test images, each of its own class."""


def test_a_model_answers_as_it_did() -> None:
    predictor = effnet_ft.load("run")
    assert predictor.classes == tuple(CLASSES)
    answers = predictor.predict([f"images/test/{name}.png" for name in ANSWERS], top_k=1)
    for (name, expected), [(label, probability)] in zip(ANSWERS.items(), answers, strict=True):
        assert (label, probability) == (name.partition("/")[0], pytest.approx(expected, abs=1e-3))


METRICS = {"test/acc1": 1.0, "test/macro_f1": 1.0, "test/ece": 0.6230, "test/ece_uncalibrated": 0.6520}


def test_a_run_is_measured_as_it_was() -> None:
    assert main(["evaluate", "run", "--json", "run.json", "--out", "run.csv"]) == 0
    found = json.loads(Path("run.json").read_text())
    assert {key: found[key] for key in METRICS} == pytest.approx(METRICS, abs=1e-3)
    with Path("run.csv").open() as file:
        assert [row["prediction"] == row["label"] for row in csv.DictReader(file)] == [True] * 12


def test_a_run_is_reported_and_predicts(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run("run")
    run.report.unlink()
    assert main(["report", "run"]) == 0
    page = run.report.read_text()
    assert "lite0" in page and "2 stage7" in page and "coral" in page
    capsys.readouterr()
    assert main(["predict", "run", "images/val", "--top-k", "2"]) == 0
    assert [line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]] == [
        label for label in CLASSES for _ in range(3)
    ]


def test_a_run_is_exported() -> None:
    assert main(["export", "run", "--format", "safetensors", "--out", "run.safetensors"]) == 0
    assert main(["evaluate", "run.safetensors", "data.root=images", "--json", "exported.json"]) == 0
    found = json.loads(Path("exported.json").read_text())
    assert {key: found[key] for key in METRICS} == pytest.approx(METRICS, abs=1e-3)


def test_a_finished_run_has_nothing_left_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "folder", "resume=run"]) == 0
    assert "is already finished" in capsys.readouterr().out


def test_a_training_begins_from_a_run() -> None:
    phases = "phases=[{train: head, epochs: 1, lr: 1e-3}]"
    weights = f"model.weights={Path('run/checkpoints/best.ckpt').absolute()}"
    given = ["data.root=images", "data.image_size=32", "data.workers=0", "trainer.accelerator=cpu", "run_dir=again"]
    assert main(["train", "folder", *given, phases, weights]) == 0
    assert main(["compare", "run", "again"]) == 0


# The interrupted run: within the last epoch of its second phase, whose rates were searched


def test_a_changed_key_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "folder", "resume=unfinished", "seed=1"]) == 2
    assert "these keys would change the run" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_to_its_end() -> None:
    run = Run("unfinished")
    rates = json.loads((run.folder / "learning_rates.json").read_text())
    before = run.table.read_text()
    assert main(["train", "folder", "resume=unfinished"]) == 0
    assert "resumed in phase 2, epoch 2, after 2 batches" in run.log.read_text()
    plan = read_plan(run.plan)
    for phase in plan.phases:
        known = rates[str(phase.number)]
        assert (phase.optim.lr, phase.optim.weight_decay) == (known["lr"], known["weight_decay"])
    assert [phase.source.kind for phase in plan.phases] == ["stored", "stored"]
    assert run.table.read_text().startswith(before)
    with run.table.open() as file:
        last = list(csv.DictReader(file))[2]
    assert (last["epoch"], last["phase"], last["train"]) == ("3", "2", "stage7")
    # What version 0.1 came to: other images, another order or another rate would have other losses.
    assert float(last["train/loss"]) == pytest.approx(6.698, rel=1e-2)
    assert float(last["val/loss"]) == pytest.approx(9.026, rel=1e-2)
    metrics = json.loads(run.metrics.read_text())
    expected = {"val/acc1": 1.0, "test/acc1": 1.0, "test/ece_uncalibrated": 0.6520, "temperature": 0.4814}
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, abs=2e-3)
    assert main(["evaluate", "unfinished"]) == 0
    assert main(["train", "folder", "resume=unfinished"]) == 0, "nothing is left to do"
