"""What a run will take, from speeds that are made up; and the speeds that are measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plans import of, plan_of

from effnet_ft.models.variants import VARIANTS
from effnet_ft.planning import estimate, speed
from effnet_ft.planning.estimate import with_estimate
from effnet_ft.planning.facts import Machine
from effnet_ft.planning.sources import stored_bytes
from effnet_ft.planning.speed import Speed, measured_speed
from effnet_ft.recipe.plan import Plan
from effnet_ft.utils.array_cache import ArrayCache

HEAD = "phases=[{train: head, epochs: 2, lr: 1e-2}]"
ALL = "phases=[{train: all, epochs: 2, lr: 1e-3}]"
MADE_UP = Speed(step=1.0, forward=0.5, prefix=0.25, step_bytes=1e6)
CHECKPOINTS = 3 * 3 * 4 * VARIANTS["lite0"].parameters


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "measured_speed", lambda *_: MADE_UP)
    monkeypatch.setattr(estimate, "_DECODED_SECONDS", 0.0)
    monkeypatch.setattr(estimate, "_FIXED_SECONDS", 7.0)


def estimated(*overrides: str, **facts: object) -> Plan:
    return with_estimate(plan_of("data.image_size=64", *overrides, **facts), [])  # type: ignore[arg-type]


def test_a_phase_takes_its_steps_its_validation_and_what_is_computed_once() -> None:
    plan = estimated(HEAD, images=of(100, val=10, test=20))
    once, epochs = (2 * 100 + 10) * 0.25, 2 * (100 * 1.0 + 10 * 0.25)
    assert plan.phases[0].seconds == pytest.approx(once + epochs)
    assert plan.estimate.seconds == pytest.approx(7 + once + epochs + 30 * 0.5)
    assert estimated(ALL, images=of(100, val=10, test=20)).phases[0].seconds == pytest.approx(2 * (100 + 10 * 0.5))


def test_what_an_earlier_phase_computed_costs_no_more() -> None:
    phases = "{train: head, epochs: 2, lr: 1}, {train: stage7, epochs: 2, lr: 1}"
    plan = estimated(f"phases=[{phases}]", images=of(100, val=10))
    assert plan.phases[1].seconds == pytest.approx(2 * (100 * 1.0 + 10 * 0.25))
    assert plan.estimate.disk_bytes == CHECKPOINTS + stored_bytes(plan, 64, 2, [7, 9])


def test_every_array_and_image_that_is_kept_is_counted_once() -> None:
    plan = estimated("phases=[{train: all, epochs: 2, lr: 1}, {train: all, epochs: 3, lr: 1}]")
    assert plan.estimate.disk_bytes == CHECKPOINTS + plan.phases[0].source.bytes
    in_memory = estimated(ALL, "data.decoded=memory")
    assert in_memory.estimate.disk_bytes == CHECKPOINTS
    assert estimated(ALL, "data.decoded=off").estimate.disk_bytes == CHECKPOINTS


def test_searches_take_time() -> None:
    known, searched = (estimated(f"phases=[{{train: head, epochs: 2, lr: {lr}}}]") for lr in ("1e-2", "auto"))
    assert (searched.estimate.seconds or 0) > (known.estimate.seconds or 0)
    tested = estimated("phases=[{train: all, epochs: 2, lr: auto, batch_size: 8}]")
    assert (tested.phases[0].seconds or 0) - (estimated(ALL).phases[0].seconds or 0) == pytest.approx(60 * 8, abs=0.2)


def test_several_processes_share_the_work() -> None:
    one, four = (estimated(ALL, machine=Machine(gpus=gpus)).phases[0].seconds for gpus in (1, 4))
    assert one == pytest.approx(4 * (four or 0))


def test_memory_grows_with_the_batch() -> None:
    eight, nine = (estimated(ALL, f"data.batch_size={batch}").estimate.memory_bytes for batch in (8, 9))
    assert (nine or 0) - (eight or 0) == 1e6


def test_files_that_cannot_be_read_are_told_later(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert with_estimate(plan_of(ALL), [tmp_path / "a.jpg", tmp_path / "gone.jpg"]).estimate.seconds


# Measuring


@pytest.mark.parametrize("train", ["head", "stage7", "all"])
def test_speeds_are_measured_once_and_remembered(train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(f"phases=[{{train: {train}, epochs: 2, lr: 1, batch_size: 4}}]", "data.image_size=32")
    cache, device, state = ArrayCache(tmp_path), torch.device("cpu"), torch.random.get_rng_state()
    found = measured_speed(plan, plan.phases[0], device, cache)
    assert min(found.step, found.forward, found.step_bytes) > 0 and (found.prefix > 0) == (train != "all")
    assert torch.equal(torch.random.get_rng_state(), state), "a plan must not change what is trained"
    monkeypatch.setattr(speed, "_measure", None)
    assert measured_speed(plan, plan.phases[0], device, ArrayCache(tmp_path)) == found
    other = plan_of(f"phases=[{{train: {train}, epochs: 2, lr: 1, batch_size: 5}}]", "data.image_size=32")
    with pytest.raises(TypeError):
        measured_speed(other, other.phases[0], device, cache)
