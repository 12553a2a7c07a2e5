"""The grid of a head's settings: each is trained as an ordinary loop would, and the best comes first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plans import phase_of

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.data.images.views import Views
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.recipe.plan import PhasePlan
from effnet_ft.training.lr_finder import head_grid
from effnet_ft.training.lr_finder.head_grid import search_head_grid

FEATURES, CLASSES = 12, 3


def plan_of(*overrides: str) -> PhasePlan:
    return phase_of("train: head, epochs: 3, lr: auto", "model.dropout=0", *overrides)


@pytest.fixture
def data() -> ActivationDataModule:
    """Features around a centre for each class, of two views."""
    random = np.random.default_rng(0)
    labels = random.integers(CLASSES, size=60)
    centres = random.normal(size=(CLASSES, FEATURES))
    arrays = [(centres[labels] + random.normal(size=(60, FEATURES))).astype(np.float16) for _ in range(3)]
    views = Views(Preprocessing(32, 36), "basic", 2, (0,))
    return ActivationDataModule(arrays[:2], arrays[2][:20], (labels, labels[:20]), views, batch_size=16)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "rmsprop"])
def test_a_setting_is_trained_as_it_would_be_alone(
    data: ActivationDataModule, optimiser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(f"optim.name={optimiser}", "optim.label_smoothing=0.2")
    together = search_head_grid(data, FEATURES, CLASSES, plan, torch.device("cpu"))
    assert len(together) == 56
    for number in (0, 20, 55):
        chosen = together[number]
        monkeypatch.setattr(head_grid, "LEARNING_RATES", (chosen.lr,))
        monkeypatch.setattr(head_grid, "WEIGHT_DECAYS", (chosen.weight_decay,))
        (alone,) = search_head_grid(data, FEATURES, CLASSES, plan, torch.device("cpu"))
        assert alone.accuracy == pytest.approx(chosen.accuracy, abs=1e-6)
        assert alone.loss == pytest.approx(chosen.loss, rel=1e-4)


def test_the_gradient_is_that_of_the_smoothed_cross_entropy(data: ActivationDataModule) -> None:
    """One step of plain gradient descent moves the weights by the gradient that torch finds."""
    plan = plan_of("optim.name=sgd", "optim.momentum=0", "optim.schedule=constant", "optim.warmup_epochs=0")
    data = ActivationDataModule(
        data.train.arrays[:1], data.val.arrays[0], (data.train.labels, data.val.labels), data.train.views, batch_size=60
    )
    data.train.views.count = 1
    trials = search_head_grid(data, FEATURES, CLASSES, replace(plan, epochs=1), torch.device("cpu"))
    weight = torch.empty(CLASSES, FEATURES).normal_(std=0.01, generator=torch.Generator().manual_seed(0))
    for lr in head_grid.LEARNING_RATES:
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


def test_the_best_comes_first(data: ActivationDataModule) -> None:
    trials = search_head_grid(data, FEATURES, CLASSES, plan_of(), torch.device("cpu"))
    assert trials == sorted(trials, key=lambda trial: (-trial.accuracy, trial.loss))
    assert trials[0].accuracy > 0.8 > 1 / CLASSES + 0.2, "the search does not learn"


def test_long_phases_are_searched_in_fewer_epochs(data: ActivationDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_grid, "_MOST_STEPS", 3 * len(data.train_dataloader()))
    short = search_head_grid(data, FEATURES, CLASSES, plan_of(), torch.device("cpu"))
    long = search_head_grid(data, FEATURES, CLASSES, replace(plan_of(), epochs=500), torch.device("cpu"))
    assert short == long
