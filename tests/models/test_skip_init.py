"""A model made without drawing, and filled, is the one that was drawn; what does not fit or is no number is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from effnet_ft.errors import WeightsError
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.heads import HEADS
from effnet_ft.models.skip_init import load_state
from effnet_ft.models.variants import VARIANTS


def images(count: int = 2, side: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def source(drawn: Callable[..., Classifier]) -> Classifier:
    return drawn("lite0", classes=3)


def empty(**settings: object) -> Classifier:
    return Classifier.empty("lite0", **{"classes": "abc", **settings})


def test_filled_it_is_the_same_model(source: Classifier) -> None:
    model = empty().eval()
    load_state(model, source.state_dict())
    assert torch.equal(model(images()), source(images()))
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())


def test_unfilled_layers_are_laid_out_as_drawn_ones(source: Classifier) -> None:
    model = empty(padding="symmetric", norm_eps=1e-5)
    assert {norm.eps for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-5}
    for ours, theirs in zip(empty().state_dict().values(), source.state_dict().values(), strict=True):
        assert (ours.device, ours.dtype, ours.stride()) == (theirs.device, theirs.dtype, theirs.stride())


@pytest.mark.parametrize("head", HEADS)
def test_the_head_of_an_unfilled_model_is_drawn(head: str) -> None:
    torch.manual_seed(5)
    state = empty(head=head, dropout=0.3).head.state_dict()
    torch.manual_seed(5)
    expected = HEADS[head](VARIANTS["lite0"].features, 3, 0.3).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_drawing_goes_on_after_an_unfilled_model() -> None:
    empty()
    first, second = (Classifier("lite0", classes="ab").stages[0][0].weight for _ in range(2))
    assert first.std() > 0.01 and not torch.equal(first, second)


def test_counters_that_lack_begin_at_zero_and_the_rest_stays(source: Classifier) -> None:
    model = empty()
    counters = {key for key in model.state_dict() if key.endswith("num_batches_tracked")}
    for key in counters:
        model.state_dict()[key].fill_(7)
    head = model.head[1].weight.clone()
    given = {key: value for key, value in source.stages.state_dict(prefix="stages.").items() if key not in counters}
    load_state(model, given)
    state = model.state_dict()
    assert counters and all(state[key] == 0 for key in counters)
    assert all(torch.equal(state[key], value) for key, value in given.items())
    assert torch.equal(model.head[1].weight, head) and not torch.equal(head, source.head[1].weight)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["stages.3.0.block.0.0.weight", "stages.8.1.running_var", "head.1.bias"])
def test_values_that_are_not_finite_are_refused(key: str, value: float, source: Classifier) -> None:
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    state[key].view(-1)[-1] = value
    with pytest.raises(WeightsError, match=rf"^NaN or infinity in 1 tensor: damaged\n  {key}$"):
        load_state(empty(), state)


def test_values_whose_sum_alone_is_infinite_are_taken(source: Classifier) -> None:
    huge = torch.full((1280,), 3e38)
    model = empty()
    load_state(model, {**source.state_dict(), "stages.8.1.weight": huge})
    assert torch.equal(model.state_dict()["stages.8.1.weight"], huge)


def test_shapes_that_differ_are_listed_and_nothing_is_copied(source: Classifier) -> None:
    model = empty()
    before = model.head[1].bias.clone()
    wrong = {"stages.0.0.weight": torch.zeros(3, 32, 3, 3), "head.1.weight": torch.zeros(5, 1280)}
    with pytest.raises(WeightsError) as error:
        load_state(model, {"head.1.bias": before + 1, **wrong})
    assert str(error.value).splitlines() == [
        "it does not fit: 2 different shapes",
        "  stages.0.0.weight: (3, 32, 3, 3), the model has (32, 3, 3, 3)",
        "  head.1.weight: (5, 1280), the model has (3, 1280)",
    ]
    assert torch.equal(model.head[1].bias, before)
