"""The classifier: its inputs, its cut, what is frozen and stays so, and its description."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from effnet_ft.errors import WeightsError
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.models.heads import HEADS
from effnet_ft.models.skip_init import load_state
from effnet_ft.models.variants import STAGES
from effnet_ft.preprocessing import Preprocessing

CUTS = range(STAGES + 1)


def images(count: int = 2, side: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# Inputs and outputs


@pytest.mark.parametrize("variant", ["b0", "lite0"])
def test_bytes_and_floats_give_the_same_logits(variant: str) -> None:
    model = create_model(variant, "none", num_classes=7)
    with torch.inference_mode():
        logits = model(images())
        assert torch.equal(logits, model(images().float()))
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(images())
    assert logits.shape == (2, 7)
    assert logits.dtype == mixed.dtype == torch.float32


def test_normalisation_is_the_records() -> None:
    view = Preprocessing(size=64, resize=72, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    seen: list[Tensor] = []
    model = Classifier("lite0", classes="ab", preprocessing=view).eval()
    model.stages[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.full((1, 3, 64, 64), 9, dtype=torch.uint8))
    assert seen[0].amax((0, 2, 3)).tolist() == seen[0].amin((0, 2, 3)).tolist() == pytest.approx([8 / 4, 7 / 5, 1.0])


# The cut


@pytest.mark.parametrize("cut", CUTS)
def test_prefix_and_suffix_make_the_whole(cut: int, drawn: Callable[..., Classifier]) -> None:
    model = drawn("lite0", classes=5)
    whole = model(images())
    model.freeze(cut)
    entering = model.prefix(images())
    assert not entering.requires_grad
    channels = [3, *(plan.input_channels for plan in model.variant.stages()), 320, model.variant.features]
    assert entering.shape[1] == channels[cut] and entering.ndim == (2 if cut == STAGES else 4)
    torch.testing.assert_close(model.suffix(entering), whole)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("batchnorm", ["train", "frozen"])
def test_trainable_parameters(cut: int, batchnorm: str) -> None:
    with torch.device("meta"):
        model, reference = Classifier("b0", classes=imagenet_classes()), torchvision.models.efficientnet_b0()
    model.freeze(3, "frozen")  # a former phase must leave nothing behind
    model.freeze(cut, batchnorm)
    trained = [*reference.features[cut:].modules(), *reference.classifier.modules()]
    if batchnorm == "frozen":
        trained = [module for module in trained if not isinstance(module, nn.BatchNorm2d)]
    expected = sum(parameter.numel() for module in trained for parameter in module.parameters(recurse=False))
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == expected


def everything_in_training_mode(model: nn.Module) -> None:
    """Do what a careless trainer does: set each module's mode behind the classifier's back."""
    for module in model.modules():
        nn.Module.train(module)


def moved_by_training(model: Classifier) -> set[str]:
    """Return the parameters and buffers of which any bit changes in two steps."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(2):
        everything_in_training_mode(model)
        optimizer.zero_grad()
        F.cross_entropy(model(images(4, side=32)), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("batchnorm", ["train", "frozen"])
def test_what_is_frozen_holds_still(cut: int, batchnorm: str, drawn: Callable[..., Classifier]) -> None:
    model = drawn("b0", classes=3, dropout=0.0, drop_path=0.0)
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    model.freeze(cut, batchnorm)

    def trained(name: str) -> bool:
        part, stage = name.split(".")[:2]
        held = batchnorm == "frozen" and name.rpartition(".")[0] in norms
        return part == "head" or (int(stage) >= cut and not held)

    assert moved_by_training(model) == {name for name in model.state_dict() if trained(name)}


def test_frozen_layers_ignore_a_mode_set_below_an_evaluating_model(drawn: Callable[..., Classifier]) -> None:
    model = drawn("lite0", classes=3)
    model.freeze(4)
    before = {name: value.clone() for name, value in model.stages[:4].state_dict().items()}
    model.stages.train()
    model(images())
    assert all(torch.equal(value, before[name]) for name, value in model.stages[:4].state_dict().items())


def test_thawing(drawn: Callable[..., Classifier]) -> None:
    model = drawn("lite0", classes=3, dropout=0.0, drop_path=0.0).train()
    model.freeze(STAGES, "frozen")
    assert not any(module.training for module in model.stages.modules() if module is not model.stages)
    model.freeze(0)
    assert all(module.training for module in model.modules())
    assert moved_by_training(model) == set(model.state_dict())


def test_a_filled_model_trains(drawn: Callable[..., Classifier]) -> None:
    model = Classifier.empty("lite0", classes="abc")
    load_state(model, drawn("lite0", classes=3).state_dict())
    assert moved_by_training(model.train()) == set(model.state_dict())


# Description


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("padding", [{}, {"padding": "symmetric", "norm_eps": 1e-5}], ids=["same", "symmetric"])
def test_rebuilt_from_its_description(head: str, padding: dict[str, object], drawn: Callable[..., Classifier]) -> None:
    view = Preprocessing(96, 100, "bilinear", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    model = drawn("b0", classes=4, head=head, preprocessing=view, **padding)
    again = Classifier.rebuild(json.loads(json.dumps(model.describe())), model.state_dict())
    assert not again.training
    assert (again.variant, again.classes, again.preprocessing) == (model.variant, model.classes, view)
    assert torch.equal(again(images()), model(images()))
    assert again.describe() == model.describe()


@pytest.mark.parametrize("change", ["less", "more"])
def test_a_description_and_a_state_that_differ(change: str, drawn: Callable[..., Classifier]) -> None:
    model = drawn("lite0", classes=4)
    state, key = model.state_dict(), "stray.weight" if change == "more" else "head.1.weight"
    weight = state.pop("head.1.weight")
    given = {**state, "head.1.weight": weight, key: weight} if change == "more" else state
    with pytest.raises(WeightsError, match=rf"1 missing or unknown key:\n  {key}$"):
        Classifier.rebuild(model.describe(), given)
