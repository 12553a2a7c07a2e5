"""The grid of a head's settings: each is trained as an ordinary loop would, and the best comes first."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plans import phase_of
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.data.images.views import Views
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.optimizers import OPTIMIZERS
from effnet_ft.optim.schedules import ema_update_weight, schedule_factor
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.recipe.plan import PhasePlan
from effnet_ft.training.lr_finder import head_grid
from effnet_ft.training.lr_finder.head_grid import Trial, search_head_grid
from effnet_ft.training.module import FineTuner

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


def search(
    data: ActivationDataModule, plan: PhasePlan, head: nn.Linear | None = None, class_weights: Tensor | None = None
) -> list[Trial]:
    model = Classifier("lite0", classes="abc", dropout=0)
    torch.manual_seed(0)
    model.head[-1] = copy.deepcopy(head) if head else nn.Linear(FEATURES, CLASSES)
    module = FineTuner(model, replace(plan.optim, lr=1.0), class_weights=class_weights)
    return search_head_grid(data, module, plan, torch.device("cpu"))


@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "rmsprop"])
def test_a_setting_is_trained_as_it_would_be_alone(
    data: ActivationDataModule, optimiser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(f"optim.name={optimiser}", "optim.label_smoothing=0.2")
    together = search(data, plan)
    assert len(together) == 56
    for number in (0, 20, 55):
        chosen = together[number]
        monkeypatch.setattr(head_grid, "LEARNING_RATES", (chosen.lr,))
        monkeypatch.setattr(head_grid, "WEIGHT_DECAYS", (chosen.weight_decay,))
        (alone,) = search(data, plan)
        assert alone.accuracy == pytest.approx(chosen.accuracy, abs=1e-6)
        assert alone.loss == pytest.approx(chosen.loss, rel=1e-4)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optim.accumulate=3", "optim.clip_norm=0.2"],
        ["optim.ema=0.9", "optim.warmup_epochs=1"],
        ["optim.class_weights=balanced", "optim.label_smoothing=0.2"],
        ["optim.name=sgd", "optim.momentum=0", "optim.schedule=constant"],
    ],
    ids=lambda overrides: overrides[0] if overrides else "default",
)
@pytest.mark.parametrize("setting", [(1e-3, 0.0), (0.1, 1e-3)])
def test_a_setting_is_trained_as_by_an_ordinary_loop(
    data: ActivationDataModule, overrides: list[str], setting: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    lr, decay = setting
    plan = plan_of(*overrides)
    weights = torch.tensor([0.5, 1.0, 3.0]) if plan.optim.class_weights == "balanced" else None
    head = torch.nn.Linear(FEATURES, CLASSES)
    monkeypatch.setattr(head_grid, "LEARNING_RATES", (lr,))
    monkeypatch.setattr(head_grid, "WEIGHT_DECAYS", (decay,))
    (trial,) = search(data, plan, head, weights)

    optimiser = OPTIMIZERS[plan.optim.optimizer](
        [{"params": [head.weight], "weight_decay": decay}, {"params": [head.bias], "weight_decay": 0.0}],
        lr,
        plan.optim.momentum,
        False,
    )
    batches = data.train_dataloader()
    steps = -(-len(batches) // plan.optim.accumulate)
    schedule = LambdaLR(optimiser, lambda step: schedule_factor(plan.optim, step, plan.epochs * steps, steps))
    average = AveragedModel(
        head, multi_avg_fn=lambda old, new, n: torch._foreach_lerp_(old, new, float(ema_update_weight(n, 0.9)))
    )
    for epoch in range(plan.epochs):
        batches.sampler.set_epoch(epoch)
        parts = list(batches)
        for start in range(0, len(parts), plan.optim.accumulate):
            part = parts[start : start + plan.optim.accumulate]
            x, y = (torch.cat(values) for values in zip(*part, strict=True))
            optimiser.zero_grad()
            loss = F.cross_entropy(head(x.float()), y, label_smoothing=plan.optim.label_smoothing, reduction="none")
            (loss if weights is None else loss * weights[y]).mean().backward()
            if plan.optim.clip_norm:
                torch.nn.utils.clip_grad_norm_(head.parameters(), plan.optim.clip_norm)
            optimiser.step()
            schedule.step()
            average.update_parameters(head)
    final = average.module if plan.optim.ema else head
    y = torch.from_numpy(data.val.labels)
    with torch.no_grad():
        logits = final(torch.from_numpy(data.val.arrays[0]).float())
    assert trial.loss == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-4)
    assert trial.accuracy == pytest.approx(float((logits.argmax(1) == y).float().mean()))


def test_the_best_comes_first(data: ActivationDataModule) -> None:
    trials = search(data, plan_of())
    assert trials == sorted(trials, key=lambda trial: (-trial.accuracy, trial.loss))
    assert trials[0].accuracy > 0.8 > 1 / CLASSES + 0.2, "the search does not learn"


def test_long_phases_are_searched_in_fewer_epochs(data: ActivationDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_grid, "_MOST_STEPS", 3 * len(data.train_dataloader()))
    short = search(data, plan_of())
    long = search(data, replace(plan_of(), epochs=500))
    assert short == long
