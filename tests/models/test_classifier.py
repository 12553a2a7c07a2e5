"""The classifier: its inputs, its cut, what is frozen and stays so, its description and its construction."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from effnet_ft.models.classifier import Classifier, create_model, imagenet_classes
from effnet_ft.models.heads import HEADS
from effnet_ft.models.layouts import from_layout
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.models.weights import WEIGHTS, load_state
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
    assert torch.equal(model.suffix(entering), whole)


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


# Construction


def test_imagenets_classes() -> None:
    assert list(imagenet_classes()) == ImageNetInfo("imagenet-1k").label_names()


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """The Lite0 file's tensors under our names."""
    record = WEIGHTS["lite0/lite"]
    return from_layout(load_state(record), VARIANTS["lite0"], record.layout)


@pytest.mark.parametrize(
    "wish", [{}, {"num_classes": 1000}, {"classes": imagenet_classes()}], ids=["nothing", "number", "names"]
)
def test_imagenets_classifier_is_kept(wish: dict[str, object], published: dict[str, Tensor]) -> None:
    model = create_model("lite0", **wish)
    assert model.classes == imagenet_classes()
    assert model.preprocessing == WEIGHTS["lite0/lite"].preprocessing
    assert all(torch.equal(model.state_dict()[key], value) for key, value in published.items())


OTHER_THOUSAND = [f"class {number}" for number in range(1000)]


@pytest.mark.parametrize(
    "wish",
    [{"num_classes": 5}, {"classes": ["a", "b"]}, {"classes": OTHER_THOUSAND}, {"head": "mlp"}, {"head": "cosine"}],
    ids=["number", "names", "another thousand", "mlp", "cosine"],
)
def test_any_other_classifier_is_drawn(wish: dict[str, object], published: dict[str, Tensor]) -> None:
    model = create_model("lite0", **wish)
    state = model.state_dict()
    stages = {key: value for key, value in published.items() if key.startswith("stages")}
    assert all(torch.equal(state[key], value) for key, value in stages.items())
    for key, value in published.items():
        assert key in stages or key not in state or not torch.equal(state[key], value)
    assert model(images()).shape == (2, len(model.classes))
    assert not model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_class_names_where_only_their_number_is_given() -> None:
    assert create_model("lite0", "none", num_classes=3).classes == ("0", "1", "2")


def test_rates_arrive() -> None:
    model = create_model("lite0", "none", num_classes=3, dropout=0.05, drop_path=0.6)
    depths = [module.p for module in model.modules() if isinstance(module, StochasticDepth)]
    assert model.head[0].p == 0.05
    assert depths[-1] == pytest.approx(0.6 * (len(depths) - 1) / len(depths))


def test_none_stands_for_no_weights() -> None:
    assert create_model("lite0", None, num_classes=2).preprocessing == create_model("lite0", "none").preprocessing


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"variant": "lite9"}, "variant is 'lite9', expected one of b0, b1.*did you mean 'lite"),
        ({"head": "linaer"}, "head is 'linaer', expected one of linear, mlp, cosine; did you mean 'linear'"),
        ({"num_classes": 3, "classes": ["a", "b"]}, "num_classes is 3, but 2 classes are named"),
        ({"num_classes": 0}, "num_classes is 0, expected at least 1"),
        ({"num_classes": -1}, "num_classes is -1, expected at least 1"),
    ],
)
def test_faults(wish: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(**{"variant": "lite0", "weights": "none", **wish})
