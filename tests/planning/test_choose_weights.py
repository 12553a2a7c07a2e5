"""Which weights ``auto`` stands for, and the size and the crop that follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans import recipe_of

from effnet_ft.errors import WeightsError
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.resolving import default_family, resolve_weights, scratch_preprocessing
from effnet_ft.planning.weights import WeightsChoice, choose_weights


def chosen(*overrides: str) -> WeightsChoice:
    recipe = recipe_of(*overrides)
    return choose_weights(recipe.model, recipe.data)


@pytest.mark.parametrize("variant", VARIANTS)
def test_auto_is_decided_for_every_variant(variant: str) -> None:
    family = default_family(variant)
    choice = chosen(f"model.variant={variant}", "data.crop=auto")
    record = resolve_weights(variant, family)
    view = record.preprocessing if record else scratch_preprocessing(variant)
    assert (choice.model.variant, choice.model.weights) == (variant, family)
    assert choice.model.family == ("auto" if family == "none" else family)
    assert (choice.image_size, choice.crop) == (view.size, view.crop)
    assert set(choice.reasons) == {"model.weights", "data.image_size", "data.crop"}


def test_what_is_given_is_taken_and_needs_no_reason() -> None:
    choice = chosen("model.variant=b0", "model.weights=advprop", "data.image_size=64", "data.crop=openmmlab")
    assert (choice.model.weights, choice.model.family) == ("advprop", "advprop")
    assert (choice.image_size, choice.crop, choice.reasons) == (64, "openmmlab", {})


def test_a_file_that_is_gone_is_asked_only_where_it_decides_something() -> None:
    given = ["model.weights=gone.pth", "model.family=lite"]
    assert chosen(*given, "data.image_size=64").model.weights == "gone.pth"
    with pytest.raises(WeightsError, match="neither a file"):
        chosen(*given)


def test_a_file_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.pth").touch()
    assert chosen("model.weights=~/mine.pth", "model.family=lite").image_size == 224
