"""A whole plan: nothing stays auto, what contradicts itself is refused, and what a resumed run may have otherwise."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plans import GPU, IMAGES, plan_of, recipe_of

from effnet_ft.errors import RecipeError
from effnet_ft.models.classifier import Classifier
from effnet_ft.planning.facts import Machine
from effnet_ft.planning.phases import with_batch
from effnet_ft.planning.planner import make_plan, with_free_settings
from effnet_ft.planning.weights import choose_weights
from effnet_ft.recipe import recipe_folder
from effnet_ft.recipe.plan import Plan

TWO = "phases=[{train: head, epochs: 2, lr: auto}, {train: all, epochs: 2, lr: 1e-3}]"


@pytest.mark.parametrize("path", sorted(recipe_folder().glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("machine", [Machine(), GPU], ids=["cpu", "gpu"])
def test_nothing_stays_auto(path: Path, machine: Machine) -> None:
    plan = plan_of(name=path, machine=machine)
    left = {key for key, value in plan.flat().items() if value == "auto"}
    assert left - {"data.decoded"} == ({"model.family"} if plan.model.weights == "none" else set())
    assert all(phase.optim.lr is not None or phase.search for phase in plan.phases)
    assert all(text for text in plan.reasons.values())


def test_the_recipe_is_left_as_it_was() -> None:
    recipe = recipe_of(TWO, "data.batch_size=auto", "model.bn_momentum=auto")
    before = recipe.to_dict()
    make_plan(recipe, IMAGES, choose_weights(recipe.model, recipe.data), GPU, largest_batch=lambda *_: 8)
    assert recipe.to_dict() == before


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (4, 3), (64, 8)])
def test_one_core_is_left_for_training(cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    plan = plan_of()
    assert plan.data.workers == workers and "data.workers" in plan.reasons
    assert plan_of("data.workers=5").data.workers == 5


# What does not go together


def test_what_is_computed_again_is_not_compiled() -> None:
    # PyTorch fails on it: "`context_fn` arg passed to `torch.utils.checkpoint` must generate ..."
    with pytest.raises(RecipeError, match=r"trainer\.compile is 'on'.*trainer\.checkpointing"):
        plan_of("trainer.checkpointing=on", "trainer.compile=on")


def test_balancing_is_for_one_class_an_image() -> None:
    with pytest.raises(RecipeError) as error:
        plan_of(
            "phases=[{train: head, epochs: 1, lr: 1, sampling: balanced}]",
            "optim.class_weights=balanced",
            images=replace(IMAGES, multilabel=True),
        )
    assert [fault.partition(" ")[0] for fault in error.value.faults] == ["data.sampling", "optim.class_weights"]


@pytest.mark.parametrize(
    ("train", "batchnorm", "size", "batch", "refused"),
    [
        ("all", "train", 32, 1, True),
        ("stage7", "train", 32, 1, True),
        ("head", "train", 32, 1, False),
        ("all", "frozen", 32, 1, False),
        ("all", "train", 33, 1, False),
        ("all", "train", 32, 2, False),
    ],
)
def test_a_batch_norm_of_a_single_value_is_refused(
    train: str, batchnorm: str, size: int, batch: int, refused: bool
) -> None:
    """What is refused is what torch would refuse at the first step."""
    settings = [f"phases=[{{train: {train}, epochs: 1, lr: 1}}]", f"model.batchnorm={batchnorm}"]
    settings += [f"data.image_size={size}", f"data.batch_size={batch}"]
    model = Classifier("lite0", classes="ab")
    model.freeze({"all": 0, "stage7": 7, "head": 9}[train], batchnorm)
    try:
        model.train()(torch.zeros(batch, 3, size, size))
        fails = False
    except ValueError:
        fails = True
    assert fails == refused
    if refused:
        with pytest.raises(
            RecipeError, match=r"data\.batch_size is 1 in phase 1, .* set it to 2, model\.batchnorm=frozen"
        ):
            plan_of(*settings)
    else:
        plan_of(*settings)


def test_single_values_of_several_processes_make_a_statistic() -> None:
    settings = ["phases=[{train: all, epochs: 1, lr: 1}]", "data.image_size=32", "data.batch_size=1"]
    settings.append("model.batchnorm=train")
    plan_of(*settings, "trainer.devices=2", "trainer.sync_batchnorm=on")
    for fails in ("trainer.devices=2", "trainer.sync_batchnorm=on"):
        with pytest.raises(RecipeError, match="batch norm needs two values"):
            plan_of(*settings, fails)


# A resumed run

MEMORY = 10**12


def resumed(plan: Plan, *overrides: str, memory: int = MEMORY) -> Plan:
    """Return what a run of ``plan`` goes on with, whose recipe has two phases."""
    return with_free_settings(plan, recipe_of(TWO, *overrides), memory)


def batches_of(plan: Plan) -> list[tuple[int, int]]:
    return [(phase.batch_size, phase.optim.accumulate) for phase in plan.phases]


def test_a_resumed_run_takes_what_does_not_decide_what_is_trained() -> None:
    plan = plan_of(TWO)
    free = ["data.root=elsewhere", "data.images=there", "data.workers=3", "data.download=off"]
    free += [f"trainer.{text}" for text in ("checkpoint_minutes=5", "timeout_minutes=7", "loggers=[wandb]")]
    found = resumed(plan, *free, "trainer.checkpointing=on")
    data, trainer = found.data, found.trainer
    assert (data.root, data.images, data.workers, data.download) == ("elsewhere", "there", 3, False)
    assert (trainer.checkpoint_minutes, trainer.timeout_minutes, trainer.loggers) == (5, 7, ("wandb",))
    assert all(phase.checkpointing for phase in found.phases)
    assert resumed(found) == plan


def test_a_resumed_run_keeps_what_decides_it() -> None:
    plan = plan_of(TWO)
    other = ["seed=5", "phases.1.lr=1", "optim.ema=0.9", "store.views=1", "data.batch_size=64", "model.variant=b0"]
    assert resumed(plan, *other) == plan


def test_a_resumed_run_takes_smaller_batches_that_make_the_same_step() -> None:
    plan = plan_of(TWO, "model.bn_momentum=auto")
    found = resumed(plan, "data.batch_size=8", "optim.accumulate=4", "model.bn_momentum=auto")
    assert batches_of(found) == [(8, 4), (8, 4)]
    assert [phase.steps for phase in found.phases] == [phase.steps for phase in plan.phases]
    for before, phase in zip(plan.phases, found.phases, strict=True):  # four batches move the statistics as far
        assert 1 - (1 - phase.bn_momentum) ** 4 == pytest.approx(before.bn_momentum)


def test_a_resumed_run_keeps_batches_that_were_made_to_fit() -> None:
    plan = plan_of(TWO)
    fitting = plan.with_phase(with_batch(plan, plan.phases[1], 16, 2), "32 images do not fit")
    assert batches_of(resumed(fitting)) == [(32, 1), (16, 2)]
    assert batches_of(resumed(fitting, "data.batch_size=auto")) == [(32, 1), (16, 2)]


@pytest.mark.parametrize(
    ("decoded", "memory", "place"),
    [("off", MEMORY, ""), ("memory", MEMORY, "memory"), ("memory", 10, ""), ("auto", MEMORY, "disk")],
)
def test_a_resumed_run_reads_images_as_it_is_told_now(decoded: str, memory: int, place: str) -> None:
    found = resumed(plan_of(TWO), f"data.decoded={decoded}", memory=memory)
    assert [phase.source.kind for phase in found.phases] == ["stored", "decoded" if place else "files"]
    assert found.phases[1].source.place == place
