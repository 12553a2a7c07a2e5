"""Chosen learning rates: the grid trains what an ordinary loop would, the range test finds where the loss rises."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.data.stored import StoredDataModule
from effnet_ft.data.views import Views
from effnet_ft.models.creation import create_model
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.recipe import load_recipe
from effnet_ft.training import search
from effnet_ft.training.phases import PhasePlan, plan_phases

FEATURES, CLASSES = 12, 3


def plan_of(*overrides: str) -> PhasePlan:
    phases = "phases=[{train: head, epochs: 3, lr: auto}]"
    return plan_phases(load_recipe("folder", ["data.root=x", "model.dropout=0", phases, *overrides]))[0]


@pytest.fixture
def data() -> StoredDataModule:
    """Features around a centre for each class, of two views."""
    random = np.random.default_rng(0)
    labels = random.integers(CLASSES, size=60)
    centres = random.normal(size=(CLASSES, FEATURES))
    arrays = [(centres[labels] + random.normal(size=(60, FEATURES))).astype(np.float16) for _ in range(3)]
    views = Views(Preprocessing(32, 36), "basic", 2, (0,))
    return StoredDataModule(arrays[:2], arrays[2][:20], (labels, labels[:20]), views, batch_size=16)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "rmsprop"])
def test_a_setting_is_trained_as_it_would_be_alone(
    data: StoredDataModule, optimiser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(f"optim.name={optimiser}", "optim.label_smoothing=0.2")
    together = search.search_head(data, FEATURES, CLASSES, plan, torch.device("cpu"))
    assert len(together) == 56
    for number in (0, 20, 55):
        chosen = together[number]
        monkeypatch.setattr(search, "LEARNING_RATES", (chosen.lr,))
        monkeypatch.setattr(search, "WEIGHT_DECAYS", (chosen.weight_decay,))
        (alone,) = search.search_head(data, FEATURES, CLASSES, plan, torch.device("cpu"))
        assert alone.accuracy == pytest.approx(chosen.accuracy, abs=1e-6)
        assert alone.loss == pytest.approx(chosen.loss, rel=1e-4)


def test_the_gradient_is_that_of_the_smoothed_cross_entropy(data: StoredDataModule) -> None:
    """One step of plain gradient descent moves the weights by the gradient that torch finds."""
    plan = plan_of("optim.name=sgd", "optim.momentum=0", "optim.schedule=constant", "optim.warmup_epochs=0")
    data = StoredDataModule(
        data.train.arrays[:1], data.val.arrays[0], (data.train.labels, data.val.labels), data.train.views, batch_size=60
    )
    data.train.views.count = 1
    trials = search.search_head(data, FEATURES, CLASSES, replace(plan, epochs=1), torch.device("cpu"))
    weight = torch.empty(CLASSES, FEATURES).normal_(std=0.01, generator=torch.Generator().manual_seed(0))
    for lr in search.LEARNING_RATES:
        layer = torch.nn.Linear(FEATURES, CLASSES)
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.zero_()
        (x, labels) = next(iter(data.train_dataloader()))
        F.cross_entropy(layer(x.float()), labels, label_smoothing=plan.optim.label_smoothing).backward()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter -= lr * parameter.grad
            x, labels = next(iter(data.val_dataloader()))
            loss = F.cross_entropy(
                layer(torch.from_numpy(data.val.arrays[0]).float()), torch.from_numpy(data.val.labels)
            )
        trial = next(trial for trial in trials if trial.lr == lr and trial.weight_decay == 0)
        assert trial.loss == pytest.approx(loss.item(), rel=1e-4)


def test_the_best_comes_first(data: StoredDataModule) -> None:
    trials = search.search_head(data, FEATURES, CLASSES, plan_of(), torch.device("cpu"))
    assert trials == sorted(trials, key=lambda trial: (-trial.accuracy, trial.loss))
    assert trials[0].accuracy > 0.8 > 1 / CLASSES + 0.2, "the search does not learn"


def test_long_phases_are_searched_in_fewer_epochs(data: StoredDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_MOST_STEPS", 3 * len(data.train_dataloader()))
    short = search.search_head(data, FEATURES, CLASSES, plan_of(), torch.device("cpu"))
    long = search.search_head(data, FEATURES, CLASSES, replace(plan_of(), epochs=500), torch.device("cpu"))
    assert short == long


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ([3, 2, 1, 1.05, 1.2, 5], 4),
        ([1, 1, 1, 1, 1, 1.2], 5),
        ([1, 1.2, 1, 0.8, 0.85, 0.9], 5),
        ([1, 0.9, float("nan")], 2),
        ([3, 2, 1], 2),
    ],
    ids=["falls and rises", "trained already", "rises early, falls again", "diverges", "never rises"],
)
def test_where_a_loss_rose(losses: list[float], rate: int) -> None:
    assert search._risen([(float(step), loss) for step, loss in enumerate(losses)]) == rate


def test_a_range_test_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = create_model("lite0", "none", num_classes=CLASSES)
    model.freeze(7)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    state = torch.random.get_rng_state()
    lr, curve = search.range_test(model, [(images, torch.tensor([0, 1, 2, 0]))], False, plan_of(), torch.device("cpu"))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert 1e-6 < lr < 1 and len(curve) > 10
    assert all(later[0] > earlier[0] for earlier, later in pairwise(curve))


def test_chosen_rates_train_and_are_written_down(
    flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    phases = "phases=[{train: head, epochs: 2, lr: auto}, {train: stage7, epochs: 2, lr: auto}]"
    assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run}", phases, *TINY]) == 0
    rates = json.loads((run / "learning_rates.json").read_text())
    assert set(rates) == {"1", "2"}
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    chosen = [rates[number]["lr"] for number in "1122"]
    assert [float(row["lr"]) for row in rows] == pytest.approx(chosen, rel=1e-4)
    with (run / "lr_search-1.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert len(trials) == 56 and float(trials[0]["lr"]) == pytest.approx(rates["1"]["lr"], rel=1e-4)
    assert (run / "lr_search-2.csv").is_file()
    assert "the best of 56 settings" in capsys.readouterr().out


def test_a_resumed_phase_keeps_its_rate(flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    phases = "phases=[{train: stage7, epochs: 2, lr: auto}]"
    assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run}", phases, *TINY]) == 0
    rates = json.loads((run / "learning_rates.json").read_text())

    def fail(*_: object) -> None:
        raise AssertionError("it was searched again")

    monkeypatch.setattr("effnet_ft.training.fit.choose", fail)
    assert main(["train", "folder", f"resume={run}"]) == 0
    assert json.loads((run / "learning_rates.json").read_text()) == rates
