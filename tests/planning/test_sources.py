"""Where the batches of each phase come from: what is worth storing, what fits, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from plans import CPU, IMAGES, of, phase_of, plan_of

from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.planning.facts import Machine
from effnet_ft.planning.sources import decoded_bytes, stored_bytes
from effnet_ft.recipe.plan import BatchSource, Plan

HEAD, STAGE7, STAGE6, ALL = (f"train: {name}, lr: 1e-3" for name in ("head", "stage7", "stage6", "all"))
SMALL = "data.image_size=64"


def plan_for(phases: Sequence[tuple[str, int]], *overrides: str, machine: Machine = CPU) -> Plan:
    listed = ", ".join(f"{{{phase}, epochs: {epochs}}}" for phase, epochs in phases)
    return plan_of(f"phases=[{listed}]", SMALL, *overrides, machine=machine)


def cuts_of(plan: Plan) -> list[tuple[int, ...]]:
    return [phase.source.cuts for phase in plan.phases]


# What is stored

SHARED: dict[str, tuple[list[tuple[str, int]], list[tuple[int, ...]]]] = {
    "one pass for two phases": ([(HEAD, 2), (STAGE6, 2)], [(6, 9), (6,)]),
    "one pass for three": ([(HEAD, 2), (STAGE7, 2), (STAGE6, 2)], [(6, 7, 9), (6, 7), (6,)]),
    "one cut twice": ([(STAGE7, 2), (STAGE7, 3)], [(7,), (7,)]),
    "after deeper training": ([(STAGE6, 2), (HEAD, 2)], [(6,), (9,)]),
    "after training all": ([(HEAD, 2), (ALL, 2), (STAGE7, 2)], [(9,), (), (7,)]),
    "other views": ([(HEAD, 2), (f"{STAGE6}, augment: strong", 2)], [(9,), (6,)]),
    "other sizes": ([(HEAD, 2), (f"{STAGE6}, image_size: 32", 2)], [(9,), (6,)]),
    "a single epoch": ([(HEAD, 1)], [()]),
    "a single epoch, and another phase's": ([(HEAD, 1), (STAGE7, 1)], [(7, 9), (7,)]),
    "a single epoch before deeper training": ([(STAGE7, 1), (HEAD, 1)], [(), ()]),
    "all": ([(ALL, 3)], [()]),
    "mixed images": ([(f"{HEAD}, mixup: 0.2", 3), (f"{HEAD}, cutmix: 1", 3)], [(), ()]),
}


@pytest.mark.parametrize("case", SHARED)
def test_one_pass_serves_all_phases_whose_prefix_holds_still(case: str) -> None:
    phases, cuts = SHARED[case]
    plan = plan_for(phases)
    assert cuts_of(plan) == cuts
    assert [phase.source.kind == "stored" for phase in plan.phases] == [bool(stored) for stored in cuts]


@pytest.mark.parametrize(
    ("augment", "epochs", "views"), [("basic", 2, 2), ("basic", 3, 3), ("basic", 9, 4), ("none", 9, 1)]
)
def test_no_more_views_than_epochs_show(augment: str, epochs: int, views: int) -> None:
    assert plan_for([(f"{HEAD}, augment: {augment}", epochs)]).phases[0].source.views == views


def test_a_phase_reads_the_views_that_an_earlier_one_stored() -> None:
    plan = plan_for([(HEAD, 8), (HEAD, 2)])
    assert [phase.source.views for phase in plan.phases] == [4, 4]
    assert "augmented" not in plan.reasons["phases.1.source"]


@pytest.mark.parametrize(("augment", "epochs", "said"), [("strong", 2, True), ("strong", 3, False), ("none", 2, False)])
def test_the_plan_says_where_no_view_is_augmented(augment: str, epochs: int, said: bool) -> None:
    plan = plan_for([(f"{HEAD}, augment: {augment}", epochs)])
    assert ("none of its views is augmented" in plan.reasons["phases.0.source"]) == said


def test_a_later_longer_phase_sees_more_views() -> None:
    assert [phase.source.views for phase in plan_for([(HEAD, 2), (STAGE7, 4)]).phases] == [4, 4]


@pytest.mark.parametrize(
    ("phases", "overrides", "reason"),
    [
        ([(HEAD, 3)], [], "the frozen stages are computed once"),
        ([(ALL, 3)], [], "no stage is frozen; each file is decoded once"),
        ([(HEAD, 3)], ["store=off"], "store is off; each file is decoded once"),
        ([(HEAD, 1)], [], "stored activations would be read once; each file is read once"),
        ([(f"{HEAD}, mixup: 0.2", 3)], ["data.decoded=off"], "mixed images differ in every epoch"),
        ([(HEAD, 3)], ["store.max_gb=0.000001", "data.decoded=memory"], "more than the 0.0 GB allowed (store.max_gb)"),
        ([(ALL, 3)], ["data.decoded=off"], "data.decoded is off: files are decoded in every epoch"),
    ],
)
def test_every_source_has_its_reason(phases: list[tuple[str, int]], overrides: list[str], reason: str) -> None:
    assert reason in plan_for(phases, *overrides).reasons["phases.0.source"]


@pytest.mark.parametrize(("variant", "size"), [("lite0", 32), ("lite0", 47), ("b2", 47)])
def test_bytes_are_those_of_the_arrays(variant: str, size: int) -> None:
    model, cuts = Classifier(variant, classes=("a", "b")).eval(), range(1, STAGES + 1)
    with torch.no_grad():
        values = {cut: maps.numel() for cut, maps in model.at_cuts(torch.zeros(1, 3, size, size), cuts)}
    assert {cut: math.prod(VARIANTS[variant].activation_shape(cut, size)) for cut in cuts} == values
    plan = plan_of(f"model.variant={variant}", images=of(10, val=4))
    assert stored_bytes(plan, size, 3, (3, 9)) == (10 * 3 + 4) * (values[3] + values[9]) * np.dtype("float16").itemsize


def test_what_does_not_fit_is_not_stored() -> None:
    phases = [(HEAD, 4), ("train: stage3, lr: 1e-3", 4)]
    need = stored_bytes(plan_for(phases), 64, 4, [9])
    plan = plan_for(phases, f"store.max_gb={1.02 * need / 1e9}")
    assert cuts_of(plan) == [(9,), ()] and "would take" in plan.reasons["phases.1.source"]
    assert cuts_of(plan_for(phases, f"store.max_gb={0.98 * need / 1e9}")) == [(), ()]
    assert plan.phases[0].source.bytes == need


def test_half_of_the_disk_is_the_limit_where_none_is_set() -> None:
    plan = plan_for([(HEAD, 4)], machine=Machine(cache_bytes=1000, cache="/cache"))
    assert (plan.store.max_bytes, plan.phases[0].source.kind) == (1000, "decoded")
    assert plan.reasons["store.max_bytes"] == "half of what is free for /cache"


# What is decoded

MUCH, LITTLE = 10**9, 10


@pytest.mark.parametrize(
    ("decoded", "disk", "memory", "source"),
    [
        ("auto", MUCH, MUCH, "disk"),
        ("auto", LITTLE, MUCH, "memory"),
        ("auto", LITTLE, LITTLE, ""),
        ("disk", MUCH, LITTLE, "disk"),
        ("disk", LITTLE, MUCH, ""),
        ("memory", MUCH, MUCH, "memory"),
        ("memory", MUCH, LITTLE, ""),
        ("off", MUCH, MUCH, ""),
    ],
)
def test_decoded_images_are_kept_where_there_is_room(decoded: str, disk: int, memory: int, source: str) -> None:
    machine = Machine(cache_bytes=disk, memory_bytes=memory)
    phase = phase_of("train: all, epochs: 2, lr: 1", f"data.decoded={decoded}", SMALL, machine=machine)
    assert (phase.source.kind, phase.source.place) == ("decoded" if source else "files", source)


def test_what_is_read_once_is_not_kept() -> None:
    assert plan_for([(ALL, 1)]).phases[0].source == BatchSource("files")


@pytest.mark.parametrize(
    ("short", "long", "augment", "bytes_"),
    [
        (90, 120, "basic", 1000 * 90 * 120 * 3 + 100 * 64 * 64 * 3),  # smaller than twice the input: as they are
        (1280, 2560, "basic", 1000 * 128 * 256 * 3 + 100 * 64 * 64 * 3),
        (1280, 2560, "none", 1100 * 64 * 64 * 3),
    ],
)
def test_decoded_images_take_what_their_sides_tell(short: int, long: int, augment: str, bytes_: int) -> None:
    plan = plan_of(
        f"phases=[{{train: all, epochs: 2, lr: 1, augment: {augment}}}]",
        SMALL,
        images=of(IMAGES.train, short_side=short, long_side=long),
    )
    assert decoded_bytes(plan, plan.phases[0]) == bytes_ == plan.phases[0].source.bytes
