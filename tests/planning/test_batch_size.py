"""The batch that fits, and the optimiser's batch that stays what it was."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from plans import GPU, phase_of, plan_of

from effnet_ft.cli import main
from effnet_ft.errors import RecipeError
from effnet_ft.planning.batch_size import batch_that_fits, largest_batch
from effnet_ft.recipe.plan import PhasePlan, Plan

AUTO = "data.batch_size=auto"
PHASES = "phases=[{train: head, epochs: 1, lr: 1e-2}, {train: all, epochs: 1, lr: 1e-3, accumulate: 4}]"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not look for cycles among all objects of the tests."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def memory_of(images: int) -> object:
    """A step on a GPU that holds so many images; it notes what it was asked for."""

    def step(count: int) -> None:
        step.asked.append(count)  # type: ignore[attr-defined]
        if count > images:
            raise torch.OutOfMemoryError

    step.asked = []  # type: ignore[attr-defined]
    return step


@pytest.mark.parametrize(
    ("fits", "wanted", "found"), [(1000, 32, 32), (32, 32, 32), (20, 32, 16), (1, 8, 1), (7, 24, 6)]
)
def test_the_largest_part_that_fits(fits: int, wanted: int, found: int) -> None:
    step = memory_of(fits)
    assert largest_batch(step, wanted) == found  # type: ignore[arg-type]
    asked = step.asked  # type: ignore[attr-defined]
    assert asked == sorted(asked, reverse=True) and asked[0] == wanted and not any(wanted % n for n in asked)


def test_where_nothing_fits_one_message_says_what_helps() -> None:
    with pytest.raises(RecipeError, match=r"data\.batch_size is 'auto'.*model\.variant"):
        largest_batch(memory_of(0), 8)  # type: ignore[arg-type]


def test_what_a_step_held_is_let_go_before_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held:
        """A step's memory."""

    living: weakref.WeakSet[Held] = weakref.WeakSet()
    seen = []

    def step(count: int) -> None:
        seen.append(len(living))
        held = Held()
        living.add(held)
        if count > 8:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(len(living)))
    assert largest_batch(step, 32) == 8
    assert set(seen) == {0}


def batches(plan: Plan) -> list[tuple[int, int]]:
    return [(phase.batch_size, phase.optim.accumulate) for phase in plan.phases]


def never(phase: PhasePlan, wanted: int) -> int:
    raise AssertionError("nothing is to be tried")


def test_on_the_cpu_it_is_the_default() -> None:
    plan = plan_of(PHASES, AUTO, largest_batch=never)
    assert batches(plan) == [(32, 1), (32, 4)]
    assert plan.data.batch_size == 32


def test_on_a_gpu_the_optimisers_batch_is_kept() -> None:
    room = {9: 1000, 0: 20}  # images by cut: training everything takes more
    plan = plan_of(
        PHASES, AUTO, machine=GPU, largest_batch=lambda phase, wanted: largest_batch(memory_of(room[phase.cut]), wanted)
    )  # type: ignore[arg-type]
    assert batches(plan) == [(32, 1), (16, 8)]
    assert plan.data.batch_size == 16
    assert plan.reasons["phases.1.batch_size"] == "what fits on the GPU"


def test_a_number_is_left_alone() -> None:
    plan = plan_of(PHASES, "data.batch_size=8", machine=GPU, largest_batch=never)
    assert batches(plan) == [(8, 1), (8, 4)]
    assert "phases.0.batch_size" not in plan.reasons


def test_a_phase_may_leave_its_batch_alone_to_the_machine() -> None:
    phases = "phases=[{train: head, epochs: 1, lr: 1, batch_size: auto}, {train: head, epochs: 1, lr: 1}]"
    assert batches(plan_of(phases, "data.batch_size=8", machine=GPU, largest_batch=lambda *_: 16)) == [(16, 2), (8, 1)]


def test_an_evaluation_takes_the_default(trained_run: Path) -> None:
    assert main(["evaluate", str(trained_run), AUTO]) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_small_network_fits_on_a_gpu() -> None:
    phase = phase_of("train: all, epochs: 1, lr: 1e-3", "data.image_size=64", machine=GPU)
    assert batch_that_fits(phase, 128, "lite0", "linear", 3, "bf16-mixed", torch.device("cuda")) == 128
