"""The batch that fits, and the optimiser's batch that stays what it was."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.errors import RecipeError
from effnet_ft.models.classifier import Classifier
from effnet_ft.planning import batch_size
from effnet_ft.planning.batch_size import largest_batch, resolve_batches
from effnet_ft.planning.phases import plan_phases
from effnet_ft.recipe import Recipe, load_recipe
from effnet_ft.runs.run_folder import Run

AUTO = "data.batch_size=auto"
PHASES = "phases=[{train: head, epochs: 1, lr: 1e-2}, {train: all, epochs: 1, lr: 1e-3, accumulate: 4}]"


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


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe("folder", ["data.root=photos", PHASES, *TINY, AUTO, *overrides])


def test_on_the_cpu_it_is_the_default() -> None:
    recipe = recipe_of()
    resolve_batches(recipe, Classifier("lite0", classes=("a", "b")), torch.device("cpu"))
    assert [(plan.data.batch_size, plan.optim.accumulate) for plan in plan_phases(recipe)] == [(32, 1), (32, 4)]
    assert recipe.data.batch_size == 32


def test_on_a_gpu_the_optimisers_batch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of()
    room = {9: 1000, 0: 20}  # images by cut: training everything takes more

    def step(plan: object, model: object, device: object, images: int) -> None:
        if images > room[plan.cut]:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError

    monkeypatch.setattr(batch_size, "_step", step)
    resolve_batches(recipe, Classifier("lite0", classes=("a", "b")), torch.device("cuda"))
    assert [(plan.data.batch_size, plan.optim.accumulate) for plan in plan_phases(recipe)] == [(32, 1), (16, 8)]
    assert recipe.data.batch_size == 16


def test_a_number_is_left_alone() -> None:
    recipe = load_recipe("folder", ["data.root=photos", PHASES, *TINY])
    before = recipe.to_dict()
    resolve_batches(recipe, Classifier("lite0", classes=("a", "b")), torch.device("cuda"))
    assert recipe.to_dict() == before


def test_a_run_writes_the_number_that_was_found(flowers: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    phases = "phases=[{train: head, epochs: 1, lr: 1e-2}]"
    assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run.folder}", phases, *TINY, AUTO]) == 0
    assert load_recipe(run.recipe).data.batch_size == 32
    assert main(["evaluate", str(run.folder), AUTO]) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_trial_on_a_gpu_leaves_the_model_as_it_was() -> None:
    model = Classifier("lite0", classes=("a", "b"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    recipe = recipe_of("trainer.accelerator=gpu", "trainer.precision=bf16-mixed")
    resolve_batches(recipe, model, torch.device("cuda"))
    assert [plan.data.batch_size for plan in plan_phases(recipe)] == [32, 128]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
