"""Schedules and the warm-up of the moving average, against their definitions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from effnet_ft.optim.schedules import SCHEDULES, ema_update_weight, schedule_factor
from effnet_ft.optim.settings import Optimization


def factors(steps: int, total: int | None = None, **settings: float | str) -> list[float]:
    """Return the factor of each step of a phase whose epochs have one step."""
    optim = Optimization(**settings)  # type: ignore[arg-type]
    return [schedule_factor(optim, step, total or steps, 1) for step in range(steps)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_warms_up_and_peaks_at_one(schedule: str) -> None:
    found = factors(100, schedule=schedule, warmup_epochs=10, step_epochs=20, step_factor=0.5)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(found) == pytest.approx(1)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(found[9:]))


def test_schedules_follow_their_formulas() -> None:
    cosine = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert factors(8, schedule="cosine") == pytest.approx(cosine)
    step = factors(9, schedule="step", step_epochs=3, step_factor=0.1)
    assert step == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3)
    assert factors(100, schedule="constant") == [1] * 100


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_longer_than_the_phase_is_harmless(schedule: str, length: int) -> None:
    assert all(0 <= factor <= 1 for factor in factors(length + 1, length, schedule=schedule, warmup_epochs=5))


def test_drops_count_from_the_beginning_behind_a_warm_up() -> None:
    """As TensorFlow's staircase: after 5 epochs of warm-up, drops every 2.4 epochs, two have been."""
    optim = Optimization(schedule="step", warmup_epochs=5, step_epochs=2.4, step_factor=0.97)
    found = [schedule_factor(optim, step, 3500, 10) for step in range(3500)]
    assert found[49:] == pytest.approx([1.0, *(0.97 ** (step // 24) for step in range(50, 3500))])


def test_averaging_follows_the_early_steps_and_then_the_decay() -> None:
    weights = [float(ema_update_weight(torch.tensor(n), 0.99)) for n in (0, 10, 10**6)]
    assert weights == pytest.approx([1 - 1 / 10, 1 - 11 / 20, 0.01])
