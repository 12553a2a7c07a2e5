"""What the machine and the length of a run decide."""

from __future__ import annotations

import shutil

import pytest
from tiny import TINY

from effnet_ft.recipe import load_recipe
from effnet_ft.training.phases import PhasePlan, plan_phases
from effnet_ft.training.trainer import worth_compiling

LONG, SHORT = 1_000_000, 1_000


def plan_of(train: str, *overrides: str) -> PhasePlan:
    phases = f"phases=[{{train: {train}, epochs: 3, lr: 1e-3}}]"
    return plan_phases(load_recipe("folder", ["data.root=x", phases, *TINY, "data.batch_size=32", *overrides]))[0]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("train", "images", "stored", "accelerator", "worth"),
    [
        ("all", LONG, False, "gpu", True),
        ("all", SHORT, False, "gpu", False),
        ("stage6", LONG, False, "gpu", False),
        ("stage6", LONG, True, "gpu", False),
        ("head", LONG, True, "gpu", False),
        ("all", LONG, False, "cpu", False),
    ],
)
def test_a_long_phase_that_trains_everything_on_a_gpu_is_compiled(
    train: str, images: int, stored: bool, accelerator: str, worth: bool
) -> None:
    assert worth_compiling(plan_of(train, f"trainer.accelerator={accelerator}"), images, stored) == worth


@pytest.mark.parametrize(("word", "worth"), [("on", True), ("off", False)])
@pytest.mark.parametrize("images", [LONG, SHORT])
def test_the_user_has_the_last_word(word: str, worth: bool, images: int) -> None:
    assert worth_compiling(plan_of("all", f"trainer.compile={word}"), images, False) == worth


def test_without_a_compiler_nothing_is_compiled_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not worth_compiling(plan_of("all", "trainer.accelerator=gpu"), LONG, False)
