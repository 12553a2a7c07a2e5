"""From recipe to phases: cuts and overrides."""

from __future__ import annotations

import pytest

from effnet_ft.models.variants import STAGES
from effnet_ft.planning.phases import cut_of, plan_phases
from effnet_ft.recipe import load_recipe


def test_cuts() -> None:
    assert cut_of("head") == STAGES
    assert cut_of("all") == 0
    assert [cut_of(f"stage{k}") for k in range(STAGES)] == list(range(STAGES))


def test_a_phase_overrides_for_itself_alone() -> None:
    phases = (
        "phases=[{train: head, epochs: 2, lr: 1e-2, name: sgd, batch_size: 4}, {train: stage5, epochs: 1, lr: 1e-3}]"
    )
    recipe = load_recipe("folder", ["data.root=x", phases, "optim.weight_decay=0.5", "data.batch_size=16"])
    first, second = plan_phases(recipe)
    assert (first.cut, first.epochs, first.optim.name, first.data.batch_size) == (9, 2, "sgd", 4)
    assert (second.cut, second.lr, second.optim.name, second.data.batch_size) == (5, 1e-3, "adamw", 16)
    assert first.optim.weight_decay == second.optim.weight_decay == 0.5
    assert (recipe.optim.name, recipe.data.batch_size) == ("adamw", 16)


@pytest.mark.parametrize("train", ["head", "stage3", "all"])
def test_words_go_through_unchanged(train: str) -> None:
    recipe = load_recipe("folder", ["data.root=x", f"phases=[{{train: {train}, epochs: 1, lr: 1}}]"])
    assert plan_phases(recipe)[0].train == train
