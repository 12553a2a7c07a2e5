"""The range test finds where the loss rises, and changes nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from plans import phase_of
from torch import Tensor

from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.training.lr_finder import range_test as module
from effnet_ft.training.lr_finder.range_test import _risen, range_test
from effnet_ft.training.module import FineTuner


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
    assert _risen([(float(step), loss) for step, loss in enumerate(losses)]) == rate


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS", 3)


CPU = torch.device("cpu")


def module_of(model: Classifier, *overrides: str, **options: Any) -> FineTuner:
    """Return the module of a phase with ``overrides``, as it is given to the range test."""
    phase = phase_of("train: stage7, epochs: 3, lr: auto", *overrides)
    return FineTuner(model, replace(phase.optim, lr=1.0), phase.mixing, **options)


def batch_of(images: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8), torch.arange(images) % 3)]


def test_a_range_test_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = create_model("lite0", "none", num_classes=3)
    model.freeze(7)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batches = batch_of(4)
    state = torch.random.get_rng_state()
    lr, curve = range_test(module_of(model), batches, CPU, "32-true")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert 1e-6 < lr < 1 and len(curve) > 10
    assert all(later[0] > earlier[0] for earlier, later in pairwise(curve))


@pytest.mark.usefixtures("few_steps")
def test_the_other_gpus_of_the_machine_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    forked, real = [], torch.random.fork_rng

    def fork_rng(devices: list[torch.device] | None = None) -> AbstractContextManager[None]:
        forked.append(devices)
        return real(devices)

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    range_test(module_of(create_model("lite0", "none", num_classes=3)), batch_of(2), CPU, "32-true")
    assert forked == [[]], "None takes every GPU of the machine, each with memory of its own in every process"


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_it_computes_as_the_phase_does(precision: str) -> None:
    model, kinds = create_model("lite0", "none", num_classes=3), set()
    model.stages[8].register_forward_hook(lambda module, images, maps: kinds.add(maps.dtype))
    range_test(module_of(model), batch_of(2), CPU, precision)
    assert kinds == {torch.bfloat16 if precision == "bf16-mixed" else torch.float32}, "a batch that fits would not"


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    "override",
    [
        "optim.layer_decay=0.5",
        "optim.decay_unit=step",
        "optim.clip_norm=0.01",
        "optim.accumulate=2",
        "data.mixup=1",
        "optim.label_smoothing=0.3",
        "optim.weight_decay=0.5",
    ],
)
def test_the_steps_are_those_of_the_training(override: str) -> None:
    torch.manual_seed(0)
    model = create_model("lite0", "none", num_classes=3)
    model.freeze(7)
    batches = [*batch_of(4), *batch_of(6)]
    curves = [range_test(module_of(model, *more), batches, CPU, "32-true")[1] for more in ([], [override])]
    assert curves[0] != curves[1]


@pytest.mark.usefixtures("few_steps")
def test_accumulated_batches_count_as_one_of_their_images() -> None:
    torch.manual_seed(0)
    model = create_model("lite0", "none", num_classes=3)
    model.freeze(9)
    ((images, labels),) = batch_of(6)
    halves = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    _, whole = range_test(module_of(model, "model.dropout=0"), [(images, labels)], CPU, "32-true")
    _, parts = range_test(module_of(model, "optim.accumulate=2"), halves, CPU, "32-true")
    assert parts == [pytest.approx(step, rel=1e-4) for step in whole]


@pytest.mark.usefixtures("few_steps")
def test_classes_are_weighed_as_in_the_training() -> None:
    model = create_model("lite0", "none", num_classes=3)
    model.freeze(9)
    curves = [
        range_test(module_of(model, class_weights=weights), batch_of(4), CPU, "32-true")[1]
        for weights in (None, torch.full((3,), 2.0))
    ]
    assert curves[1][0][1] == pytest.approx(2 * curves[0][0][1], rel=1e-4)
