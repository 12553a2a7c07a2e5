"""Schedules, parameter groups and the averaging's warm-up, against their definitions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from effnet_ft.models.creation import create_model
from effnet_ft.models.heads import HEADS
from effnet_ft.optim.optimizers import (
    OPTIMISERS,
    SCHEDULES,
    averaging_weight,
    decay_rate,
    learning_rate_factor,
    parameter_groups,
)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_warms_up_and_peaks_at_one(schedule: str) -> None:
    factors = [
        learning_rate_factor(step, schedule=schedule, total_steps=100, warmup_steps=10, drop_steps=20, drop_factor=0.5)
        for step in range(100)
    ]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(factors) == pytest.approx(1)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(factors[9:]))


def test_schedules_follow_their_formulas() -> None:
    cosine = [learning_rate_factor(step, schedule="cosine", total_steps=8) for step in range(8)]
    assert cosine == pytest.approx([(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)])
    step = [learning_rate_factor(n, schedule="step", total_steps=9, drop_steps=3, drop_factor=0.1) for n in range(9)]
    assert step == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3)
    assert learning_rate_factor(99, schedule="constant", total_steps=100) == 1


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_longer_than_the_phase_is_harmless(schedule: str, length: int) -> None:
    for step in range(length + 1):
        factor = learning_rate_factor(step, schedule=schedule, total_steps=length, warmup_steps=5)
        assert 0 <= factor <= 1


def test_drops_count_from_the_beginning_behind_a_warm_up() -> None:
    """As TensorFlow's staircase: after 5 epochs of warm-up, drops every 2.4 epochs, two have been."""
    factors = [
        learning_rate_factor(step, schedule="step", total_steps=3500, warmup_steps=50, drop_steps=24, drop_factor=0.97)
        for step in range(3500)
    ]
    assert factors[49:] == pytest.approx([1.0, *(0.97 ** (step // 24) for step in range(50, 3500))])


def test_rmsprop_takes_tensorflows_steps() -> None:
    """Against timm's port, through a change of the learning rate, with gradients of any size and with weight decay."""
    from timm.optim.rmsprop_tf import RMSpropTF

    torch.manual_seed(0)
    drawn = torch.randn(5, 4)
    ours, theirs = (nn.Parameter(drawn.clone()) for _ in range(2))
    optimisers = [
        OPTIMISERS["rmsprop"]([{"params": [ours], "weight_decay": 1e-2}], 0.05, 0.9, False),
        RMSpropTF([theirs], lr=0.05, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=1e-2),
    ]
    for step in range(20):
        gradient = torch.randn(5, 4) * 10.0 ** torch.arange(-4, 1)[:, None]
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.param_groups[0]["lr"] = 0.05 * 0.8**step
            weight.grad = gradient.clone()
            optimiser.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_decay_by_step_takes_off_as_much_at_any_learning_rate() -> None:
    for lr in (1e-3, 0.1):
        assert decay_rate(1e-4, lr, "step") * lr == pytest.approx(1e-4)
        assert decay_rate(1e-4, lr, "rate") == 1e-4


@pytest.mark.parametrize("head", HEADS)
def test_norms_and_biases_do_not_decay_and_every_trained_parameter_is_in_one_group(head: str) -> None:
    model = create_model("lite0", None, num_classes=3, head=head)
    model.freeze(6)
    decayed, kept = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    exempt = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        for own, parameter in module.named_parameters(recurse=False)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm) or own in ("bias", "log_scale")
    }
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {names[id(parameter)] for parameter in kept["params"]} == exempt & trained
    assert {names[id(parameter)] for parameter in decayed["params"]} == trained - exempt


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_descends(name: str) -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimiser = OPTIMISERS[name]([{"params": [weight]}], 0.05, 0.9, True)
    for _ in range(200):
        optimiser.zero_grad()
        (weight**2).sum().backward()
        optimiser.step()
    assert abs(float(weight.detach())) < 0.5


def test_averaging_follows_the_early_steps_and_then_the_decay() -> None:
    weights = [float(averaging_weight(torch.tensor(n), 0.99)) for n in (0, 10, 10**6)]
    assert weights == pytest.approx([1 - 1 / 10, 1 - 11 / 20, 0.01])
