"""A plan for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from plans import GPU, IMAGES, plan_of

from effnet_ft.planning.facts import Machine
from effnet_ft.planning.table import plan_json, plan_summary, plan_text
from effnet_ft.recipe.plan import Estimate, Plan

PHASES = (
    "phases=[{train: head, epochs: 9, lr: auto}, {train: stage7, epochs: 2, lr: 1e-3, accumulate: 2}, "
    "{train: all, epochs: 2, lr: 1e-4}]"
)


@pytest.fixture
def plan() -> Plan:
    return replace(
        plan_of(PHASES, "data.batch_size=auto", run_dir="runs/x"), estimate=Estimate(125.0, 2_000_000_000, 10**9)
    )


def test_every_decision_has_its_reason_beside_it(plan: Plan) -> None:
    values = json.loads(json.dumps(plan_json(plan)))
    assert values["trainer"]["accelerator"] == {"value": "cpu", "reason": "no GPU"}
    assert values["phases"][0]["optim"]["lr"]["value"] is None and values["phases"][0]["optim"]["lr"]["reason"]
    assert values["phases"][0]["source"]["value"]["kind"] == "stored"
    assert values["phases"][1]["batch_size"] == {"value": 32, "reason": "the usual batch"}
    assert values["estimate"] == {"seconds": 125.0, "disk_bytes": 2_000_000_000, "memory_bytes": 10**9}
    assert values["seed"] == 0 and values["revision"] == 1


@pytest.mark.parametrize("machine", [Machine(), GPU, Machine(launched=(2, 2))], ids=["cpu", "gpu", "torchrun"])
@pytest.mark.parametrize("more", [[], ["model.bn_momentum=auto", "optim.lr_scaling=sqrt", "data.decoded=off"]])
def test_every_reason_finds_its_place(machine: Machine, more: list[str]) -> None:
    plan = plan_of(PHASES, "data.batch_size=auto", *more, machine=machine, largest_batch=lambda phase, wanted: wanted)
    assert sorted(_reasons(plan_json(plan))) == sorted(plan.reasons.values())


def _reasons(value: object) -> list[str]:
    if isinstance(value, dict) and value.keys() == {"value", "reason"}:
        return [value["reason"]]
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [reason for entry in entries for reason in _reasons(entry)]


def test_people_are_told_what_is_done_and_why(plan: Plan) -> None:
    text = plan_text(plan)
    for part in (
        "photos: 1000 training, 100 validation, 100 test, 3 classes",
        "lite0 from lite",
        "224 px, timm crop",
        "train head, 9 epochs, 288 steps",
        "grid of heads, not searched yet",
        "32 images x 2 accumulated, from stored activations, 4 views of each image",
        "from decoded images",
        "the frozen stages are computed once",
        "expected: about 2 min, 2.00 GB of disk, 1.00 GB of memory",
        "run folder: runs/x",
    ):
        assert part in text, part


def test_the_log_has_a_line_a_phase(plan: Plan) -> None:
    lines = plan_summary(plan).splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "plan:",
        "  phase 1: head",
        "  phase 2: stage7",
        "  phase 3: all",
        "  expected: about 2 min",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "unknown time"), (89, "about 89 s"), (91, "about 2 min"), (5399, "about 90 min"), (7200, "about 2.0 h")],
)
def test_durations_are_told_as_people_say_them(seconds: float | None, words: str) -> None:
    assert f"expected: {words}, " in plan_text(replace(plan_of(), estimate=Estimate(seconds)))


def test_images_of_unknown_size_can_be_planned() -> None:
    assert "from decoded images" in plan_text(
        plan_of("phases=[{train: all, epochs: 2, lr: 1}]", images=replace(IMAGES, short_side=0, long_side=0))
    )
