"""Models with pretrained weights: which file, whose classifier, what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from effnet_ft.errors import WeightsError
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.models.heads import HEADS
from effnet_ft.models.layers import SameConv2d
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.download import weights_file
from effnet_ft.models.weights.files import DESCRIPTION, read_weights
from effnet_ft.models.weights.key_maps import LAYOUTS, from_our_keys, to_our_keys
from effnet_ft.models.weights.table import FAMILIES, WEIGHTS
from effnet_ft.preprocessing import Preprocessing

State = dict[str, Tensor]


def images(count: int = 2, side: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# The package's weights


def test_imagenets_classes() -> None:
    assert list(imagenet_classes()) == ImageNetInfo("imagenet-1k").label_names()


@pytest.fixture(scope="module")
def published() -> State:
    """The Lite0 file's tensors under our names."""
    record = WEIGHTS["lite0/lite"]
    return to_our_keys(read_weights(weights_file(record)).state, VARIANTS["lite0"], record.layout)


@pytest.mark.parametrize(
    "wish", [{}, {"num_classes": 1000}, {"classes": imagenet_classes()}], ids=["nothing", "number", "names"]
)
def test_imagenets_classifier_is_kept(wish: dict[str, object], published: State) -> None:
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
def test_any_other_classifier_is_drawn(wish: dict[str, object], published: State) -> None:
    model = create_model("lite0", **wish)
    state = model.state_dict()
    stages = {key: value for key, value in published.items() if key.startswith("stages")}
    assert all(torch.equal(state[key], value) for key, value in stages.items())
    for key, value in published.items():
        assert key in stages or key not in state or not torch.equal(state[key], value)
    assert model(images()).shape == (2, len(model.classes))
    assert not model.training and all(parameter.requires_grad for parameter in model.parameters())


# Files


@pytest.fixture(scope="module")
def stages(drawn: Callable[..., Classifier]) -> State:
    """The stages of a Lite0, every value random."""
    return drawn("lite0", classes=1).stages.state_dict(prefix="stages.")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.pth"


def random_head(kind: str, count: int) -> State:
    head = HEADS[kind](VARIANTS["lite0"].features, count, 0.2).state_dict(prefix="head.")
    generator = torch.Generator().manual_seed(count)
    return {key: torch.rand(value.shape, generator=generator) for key, value in head.items()}


def description(classes: Sequence[str], head: str = "linear") -> dict[str, object]:
    view = Preprocessing(96, 100, "bilinear", "openmmlab", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)).to_dict()
    numbers = {"preprocessing": view, "padding": "symmetric", "norm_eps": 1e-5}
    return {"variant": "lite0", "classes": list(classes), "head": head, "task": "single", "temperature": 1.0, **numbers}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_every_layout(layout: str, drawn: Callable[..., Classifier], file: Path) -> None:
    source = drawn("b0", classes=3)
    torch.save(from_our_keys(source.state_dict(), source.variant, layout), file)
    model = create_model("b0", str(file), family="aa", num_classes=3)
    with torch.inference_mode():
        assert torch.equal(model(images()), source(images()))


NEW = "new head with {:,} classes"
# What the file's classifier is, what is asked for, and what the log says of it; it is kept where that says so.
FOREIGN: dict[str, tuple[State, dict[str, object], str]] = {
    "ImageNet": (random_head("linear", 1000), {}, "classifier kept"),
    "ImageNet, by names": (random_head("linear", 1000), {"classes": imagenet_classes()}, "classifier kept"),
    "another thousand": (
        *(random_head("linear", 1000), {"classes": OTHER_THOUSAND}),
        f"ImageNet classifier discarded; {NEW.format(1000)}",
    ),
    "as many": (
        *(random_head("linear", 17), {"num_classes": 17}),
        "17-class classifier kept; the file has no class names, the given order is assumed",
    ),
    "more": (
        *(random_head("linear", 17), {"num_classes": 18}),
        f"17-class classifier discarded; {NEW.format(18)}",
    ),
    "ImageNet's to two": (
        *(random_head("linear", 1000), {"classes": ["a", "b"]}),
        f"1000-class classifier discarded; {NEW.format(2)}",
    ),
    "two to ImageNet's": (random_head("linear", 2), {}, f"2-class classifier discarded; {NEW.format(1000)}"),
    "another kind": (
        *(random_head("linear", 17), {"num_classes": 17, "head": "mlp"}),
        f"17-class classifier discarded; {NEW.format(17)}",
    ),
    "none": ({}, {"num_classes": 4}, f"no classifier in the file; {NEW.format(4)}"),
    "mlp": (
        *(random_head("mlp", 17), {"num_classes": 17, "head": "mlp"}),
        "17-class classifier kept; the file has no class names, the given order is assumed",
    ),
    "mlp to linear": (
        *(random_head("mlp", 17), {"num_classes": 17}),
        f"17-class classifier discarded; {NEW.format(17)}",
    ),
    "cosine": (
        *(random_head("cosine", 17), {"num_classes": 17, "head": "cosine"}),
        "17-class classifier kept; the file has no class names, the given order is assumed",
    ),
    "cosine to linear": (
        *(random_head("cosine", 17), {"num_classes": 17}),
        f"17-class classifier discarded; {NEW.format(17)}",
    ),
}


def assert_loaded(model: Classifier, state: State, says: str, lines: list[str], part: str = "") -> None:
    """Compare the model's tensors with the file's, and the only log line's end with ``says``."""
    own = model.state_dict()
    for key, value in state.items():
        if key.startswith("stages"):
            assert torch.equal(own[key], value)
        elif "kept" in says:
            assert torch.equal(own[key], value), f"{key} was not kept"
        else:
            assert key not in own or own[key].shape != value.shape or not torch.equal(own[key], value), f"{key} stayed"
    loaded = sum(key.startswith("stages") or "kept" in says for key in state)
    assert len(lines) == 1 and lines[0].endswith(f" (effnet_ft layout): {loaded} tensors{part} loaded, {says}")
    assert model(images()).shape == (2, len(model.classes))


@pytest.mark.parametrize("case", FOREIGN)
def test_whose_classifier(case: str, stages: State, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    head, wish, says = FOREIGN[case]
    state = {**stages, **head}
    torch.save(state, file)
    with caplog.at_level(logging.INFO, "effnet_ft"):
        model = create_model("lite0", str(file), family="lite", **wish)
    assert_loaded(model, state, says, caplog.messages)
    assert caplog.messages[0].startswith("weights lite0/lite (")


# Classes and head that a file of ours names, what is asked for, and what the log says.
OF_OURS: dict[str, tuple[str, str, dict[str, object], str]] = {
    "the same": ("linear", "abc", {"classes": "abc"}, "classifier kept"),
    "other names": ("linear", "abc", {"classes": "abd"}, f"3-class classifier discarded; {NEW.format(3)}"),
    "another order": ("linear", "abc", {"classes": "cba"}, f"3-class classifier discarded; {NEW.format(3)}"),
    "a number": ("linear", "abc", {"num_classes": 3}, f"3-class classifier discarded; {NEW.format(3)}"),
    "fewer": ("linear", "abc", {"classes": "ab"}, f"3-class classifier discarded; {NEW.format(2)}"),
    "the same, mlp": ("mlp", "abc", {"classes": "abc", "head": "mlp"}, "classifier kept"),
    "the same, cosine": ("cosine", "abc", {"classes": "abc", "head": "cosine"}, "classifier kept"),
    "mlp to linear": ("mlp", "abc", {"classes": "abc"}, f"3-class classifier discarded; {NEW.format(3)}"),
    "cosine to mlp": (
        *("cosine", "abc", {"classes": "abc", "head": "mlp"}),
        f"3-class classifier discarded; {NEW.format(3)}",
    ),
}


@pytest.mark.parametrize("case", OF_OURS)
def test_whose_classifier_where_the_file_names_its_classes(
    case: str, stages: State, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, names, wish, says = OF_OURS[case]
    state = {**stages, **random_head(head, len(names))}
    own = description(names, head)
    torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}, DESCRIPTION: own}, file)
    with caplog.at_level(logging.INFO, "effnet_ft"):
        model = create_model("lite0", str(file), **wish)
    assert_loaded(model, state, says, caplog.messages, part=" of its state_dict")
    numbers = {"preprocessing": own["preprocessing"], "padding": "symmetric", "norm_eps": 1e-5}
    assert model.describe() == {**model.describe(), **numbers}


@pytest.mark.parametrize("name", ["mine.pth", "efficientnet-lite0-flowers.pth"])
def test_a_file_of_ours_is_believed_before_its_name(name: str, stages: State, tmp_path: Path) -> None:
    own = description("ab")
    torch.save({"state_dict": stages, DESCRIPTION: own}, tmp_path / name)
    model = create_model("lite0", str(tmp_path / name), classes="ab")
    assert model.describe() == own
    assert model.mean.flatten().tolist() == [1, 2, 3]


def test_a_file_of_ours_and_a_family(stages: State, file: Path) -> None:
    torch.save({"state_dict": stages, DESCRIPTION: description("ab")}, file)
    with pytest.raises(
        WeightsError, match=rf"^{file}: its own description contradicts the family .*: leave model\.family out$"
    ):
        create_model("lite0", str(file), family="lite")
    view = Preprocessing(96, 100, mean=FAMILIES["lite"].mean, std=FAMILIES["lite"].std)
    own = {**description("ab"), "preprocessing": view.to_dict(), "padding": "same", "norm_eps": 1e-3}
    torch.save({"state_dict": stages, DESCRIPTION: own}, file)
    assert create_model("lite0", str(file), family="lite", classes="ab").describe() == own, "said twice"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_travels(family: str, stages: State, file: Path) -> None:
    torch.save(stages, file)
    model, numbers = create_model("lite0", str(file), family=family, num_classes=2), FAMILIES[family]
    view = Preprocessing(224, 256, "bicubic", numbers.crop, numbers.mean, numbers.std)
    assert model.preprocessing == view
    assert model.mean.flatten().tolist() == pytest.approx(numbers.mean)
    assert model.std.flatten().tolist() == pytest.approx(numbers.std)
    assert {norm.eps for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == {numbers.norm_eps}
    assert any(isinstance(module, SameConv2d) for module in model.modules()) == (numbers.padding == "same")
    again = Classifier.rebuild(model.describe(), model.state_dict())
    assert (again.describe(), again.preprocessing) == (model.describe(), view)


def test_counters_that_a_file_lacks_begin_at_zero(stages: State, file: Path) -> None:
    torch.save({key: value for key, value in stages.items() if not key.endswith("num_batches_tracked")}, file)
    state = create_model("lite0", str(file), family="lite", num_classes=2).state_dict()
    assert {int(value) for key, value in state.items() if key.endswith("num_batches_tracked")} == {0}


def test_half_precision_becomes_single(stages: State, file: Path) -> None:
    torch.save({key: value.half() if value.is_floating_point() else value for key, value in stages.items()}, file)
    model = create_model("lite0", str(file), family="lite", num_classes=2)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    weight = stages["stages.0.0.weight"]
    assert torch.equal(model.stages[0][0].weight, weight.half().float())


def test_a_classifier_that_is_left_need_not_be_sound(stages: State, file: Path) -> None:
    torch.save({**stages, "head.1.weight": torch.full((9, 1280), float("nan")), "head.1.bias": torch.zeros(9)}, file)
    assert create_model("lite0", str(file), family="lite", num_classes=2)(images()).isfinite().all()


@pytest.mark.parametrize("variant", ["lite1", "b0"])
def test_weights_of_another_variant(variant: str, stages: State, file: Path) -> None:
    torch.save(stages, file)
    with pytest.raises(WeightsError) as error:
        create_model(variant, str(file), family="lite")
    expected = f"{file}: it holds weights of lite0, the model is {variant}: use model.variant=lite0"
    assert str(error.value) == expected


# Without weights, and what is asked for wrongly


def test_class_names_where_only_their_number_is_given() -> None:
    assert create_model("lite0", "none", num_classes=3).classes == ("0", "1", "2")


@pytest.mark.parametrize("weights", ["none", "lite"])
def test_rates_arrive(weights: str) -> None:
    model = create_model("lite0", weights, num_classes=3, dropout=0.05, drop_path=0.6)
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
        ({"num_classes": 3, "classes": ["a", "b"]}, "num_classes is 3, but 2 class names are given"),
        ({"num_classes": 0}, "num_classes is 0, expected at least 1"),
        ({"num_classes": -1}, "num_classes is -1, expected at least 1"),
    ],
)
def test_faults(wish: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(**{"variant": "lite0", "weights": "none", **wish})
