"""From recipe to phases: cuts, overrides, and what the images and the processes decide."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans import GPU, of, phase_of, plan_of

from effnet_ft.data.sampling import DistributedBatchSampler, EpochSampler
from effnet_ft.models.variants import STAGES, cut_of, train_of
from effnet_ft.planning.facts import Machine
from effnet_ft.planning.table import plan_text
from effnet_ft.recipe import recipe_folder

CUTS = {"head": STAGES, "all": 0, **{f"stage{number}": number for number in range(1, STAGES)}}


@pytest.mark.parametrize("train", CUTS)
def test_words_stand_for_cuts(train: str) -> None:
    assert cut_of(train) == CUTS[train] and train_of(CUTS[train]) == train
    phase = phase_of(f"train: {train}, epochs: 1, lr: 1")
    assert (phase.train, phase.cut) == (train, CUTS[train])


def test_a_phase_overrides_for_itself_alone() -> None:
    phases = (
        "phases=[{train: head, epochs: 2, lr: 1e-2, name: sgd, batch_size: 4}, {train: stage5, epochs: 1, lr: 1e-3}]"
    )
    plan = plan_of(phases, "optim.weight_decay=0.5", "data.batch_size=16")
    first, second = plan.phases
    assert (first.cut, first.epochs, first.optim.optimizer, first.batch_size) == (9, 2, "sgd", 4)
    assert (second.cut, second.optim.lr, second.optim.optimizer, second.batch_size) == (5, 1e-3, "adamw", 16)
    assert first.optim.weight_decay == second.optim.weight_decay == 0.5
    assert plan.data.batch_size == 16


def test_a_phases_own_auto_is_the_recipes_value() -> None:
    own = "train: head, epochs: 1, lr: 1, image_size: auto, dropout: auto"
    phase = phase_of(own, "data.image_size=64", "model.dropout=0.7")
    assert (phase.image_size, phase.dropout) == (64, 0.7)
    assert phase_of(own).dropout == 0.2  # lite0's


def test_a_phases_own_momentum_is_decided_by_its_steps() -> None:
    auto = "train: all, epochs: 1, lr: 1, batch_size: 8, bn_momentum: auto"
    assert phase_of(auto, images=of(8 * 200)).bn_momentum == pytest.approx(0.05)
    assert phase_of(auto, "model.bn_momentum=0.3", images=of(8 * 200)).bn_momentum == pytest.approx(0.05)
    own = "train: all, epochs: 1, lr: 1, batch_size: 8, bn_momentum: 0.2"
    assert phase_of(own, "model.bn_momentum=auto").bn_momentum == 0.2


def test_off_is_none() -> None:
    phase = phase_of("train: head, epochs: 1, lr: 1")
    assert (phase.optim.ema, phase.optim.clip_norm, phase.patience) == (None, None, None)
    phase = phase_of("train: head, epochs: 1, lr: 1, ema: 0.9, clip_norm: 2, patience: 3")
    assert (phase.optim.ema, phase.optim.clip_norm, phase.patience) == (0.9, 2, 3)


# What the images and the processes decide


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(("images", "batch", "accumulate"), [(24, 8, 1), (24, 11, 1), (25, 8, 2), (9, 8, 1), (3, 8, 4)])
def test_steps_are_those_of_the_sampler(images: int, batch: int, accumulate: int, processes: int) -> None:
    phase = phase_of(
        f"train: all, epochs: 3, lr: 1, batch_size: {batch}, accumulate: {accumulate}",
        f"trainer.devices={processes}",
        images=of(images),
    )
    batches = len(DistributedBatchSampler(EpochSampler(images, (0,)), batch, (0, processes)))
    assert phase.steps == 3 * -(-batches // accumulate)


@pytest.mark.parametrize(
    ("images", "batch", "accumulate", "processes", "epochs", "steps"),
    [
        (1000, 8, 4, 1, 6, 192),  # 32 steps an epoch
        (1250, 8, 4, 1, 5, 200),  # the same 200 steps with more images: 40 an epoch
        (1000, 8, 1, 4, 6, 192),
        (1000, 5, 1, 1, 1, 200),
        (9999, 5, 1, 1, 1, 2000),  # not none
    ],
)
def test_steps_become_the_nearest_number_of_epochs(
    images: int, batch: int, accumulate: int, processes: int, epochs: int, steps: int
) -> None:
    phase = f"phases=[{{train: all, steps: 200, lr: 1, batch_size: {batch}, accumulate: {accumulate}}}]"
    plan = plan_of(phase, f"trainer.devices={processes}", images=of(images))
    assert (plan.phases[0].epochs, plan.phases[0].steps) == (epochs, steps)
    assert plan.reasons["phases.0.epochs"] == f"nearest to 200 steps, at {steps // epochs} an epoch"
    assert plan.reasons["phases.0.epochs"] in plan_text(plan)


@pytest.mark.parametrize("fit", ["train", "trainval"])
@pytest.mark.parametrize("path", sorted(recipe_folder().glob("*_paper.yaml")), ids=lambda path: path.stem)
def test_grid_and_final_run_of_the_papers_recipes_take_20_000_steps(path: Path, fit: str) -> None:
    """An epoch of the smallest set, Flowers-102, is of 4 steps without and 8 with the validation images."""
    for images in (1020, 2040, 6667, 50_000):
        phase = plan_of(f"data.fit={fit}", name=path, images=of(images)).phases[0]
        assert phase.steps == pytest.approx(20_000, rel=0.005)


@pytest.mark.parametrize(("images", "momentum"), [(80, 0.1), (8 * 1000, 0.01), (8 * 200, 0.05), (3, 0.1)])
def test_the_papers_momentum_follows_the_steps_of_an_epoch(images: int, momentum: float) -> None:
    phase, auto = "train: all, epochs: 1, lr: 1, batch_size: 8", "model.bn_momentum=auto"
    assert phase_of(phase, auto, images=of(images)).bn_momentum == pytest.approx(momentum)
    assert phase_of(phase, images=of(images)).bn_momentum == 0.01
    # Of four accumulated batches each moves the statistics: together as far.
    parts = phase_of("train: all, epochs: 1, lr: 1, batch_size: 2, accumulate: 4", auto, images=of(images))
    assert 1 - (1 - parts.bn_momentum) ** 4 == pytest.approx(momentum)


@pytest.mark.parametrize(
    ("how", "processes", "rate"), [("off", 8, 0.1), ("linear", 4, 0.2), ("linear", 1, 0.05), ("sqrt", 8, 0.2)]
)
def test_learning_rates_grow_with_the_images_of_a_step(how: str, processes: int, rate: float) -> None:
    scaled = f"train: head, epochs: 1, lr: 0.1, lr_scaling: {how}, lr_batch: 64"
    plan = plan_of(f"phases=[{{{scaled}}}]", f"trainer.devices={processes}")
    assert plan.phases[0].optim.lr == pytest.approx(rate)
    assert ("images a step" in plan.reasons.get("phases.0.lr", "")) == (how != "off")


def test_a_rate_that_is_searched_is_not_scaled() -> None:
    assert phase_of("train: head, epochs: 1, lr: auto, lr_scaling: linear").optim.lr is None


# How a learning rate is found


@pytest.mark.parametrize(
    ("phase", "overrides", "search"),
    [
        ("train: head, epochs: 2, lr: auto", [], "grid of heads"),
        ("train: head, epochs: 2, lr: auto", ["model.head=mlp"], "range test"),
        ("train: head, epochs: 2, lr: auto", ["store=off"], "range test"),
        ("train: head, epochs: 1, lr: auto", [], "range test"),  # the features are read once: they are not stored
        ("train: stage7, epochs: 2, lr: auto", [], "range test"),
        ("train: head, epochs: 2, lr: 0.1", [], ""),
    ],
)
def test_a_grid_is_for_linear_heads_on_stored_features(phase: str, overrides: list[str], search: str) -> None:
    assert phase_of(phase, *overrides).search == search


# What is compiled

LONG, SHORT = 1_000_000, 1_000


def compiled(train: str, images: int, *overrides: str, machine: Machine = GPU) -> bool:
    phase = f"train: {train}, epochs: 3, lr: 1e-3"
    return phase_of(phase, "data.batch_size=32", *overrides, images=of(images), machine=machine).compile


@pytest.mark.parametrize(
    ("train", "images", "overrides", "worth"),
    [
        ("all", LONG, ["trainer.accelerator=gpu"], True),
        ("all", LONG, ["trainer.accelerator=cuda"], True),
        ("all", LONG, [], True),
        ("all", SHORT, [], False),
        ("stage6", LONG, ["store=off"], False),
        ("stage6", LONG, [], False),
        ("head", LONG, [], False),
        ("all", LONG, ["trainer.accelerator=cpu"], False),
        ("all", LONG, ["trainer.checkpointing=on"], False),  # PyTorch fails on it
    ],
)
def test_a_long_phase_that_trains_everything_on_a_gpu_is_compiled(
    train: str, images: int, overrides: list[str], worth: bool
) -> None:
    assert compiled(train, images, *overrides) == worth


@pytest.mark.parametrize(("word", "worth"), [("on", True), ("off", False)])
@pytest.mark.parametrize("images", [LONG, SHORT])
def test_the_user_has_the_last_word(word: str, worth: bool, images: int) -> None:
    assert compiled("all", images, f"trainer.compile={word}") == worth


def test_without_a_compiler_nothing_is_compiled_unasked() -> None:
    assert not compiled("all", LONG, machine=Machine(gpus=1, bf16=True))
