"""The range test finds where the loss rises, and changes nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from effnet_ft.models.creation import create_model
from effnet_ft.recipe import load_recipe
from effnet_ft.training.phases import plan_phases
from effnet_ft.training.range_test import _risen, range_test


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ([3, 2, 1, 1.05, 1.2, 5], 4),
        ([1, 1, 1, 1, 1, 1.2], 5),
        ([1, 1.2, 1, 0.8, 0.85, 0.9], 5),
        ([1, 0.9, float("nan")], 2),
        ([3, 2, 1], 2),
    ],
    ids=["falls and rises", "trained already", "rises early, falls again", "diverges", "never rises"],
)
def test_where_a_loss_rose(losses: list[float], rate: int) -> None:
    assert _risen([(float(step), loss) for step, loss in enumerate(losses)]) == rate


def test_a_range_test_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = create_model("lite0", "none", num_classes=3)
    (plan,) = plan_phases(load_recipe("folder", ["data.root=x", "phases=[{train: stage7, epochs: 3, lr: auto}]"]))
    model.freeze(7)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    state = torch.random.get_rng_state()
    lr, curve = range_test(model, [(images, torch.tensor([0, 1, 2, 0]))], False, plan, torch.device("cpu"))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert 1e-6 < lr < 1 and len(curve) > 10
    assert all(later[0] > earlier[0] for earlier, later in pairwise(curve))
