"""The networks against timm's and torchvision's, on the same random parameters and batch-norm statistics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.layers import SameConv2d
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights import key_maps
from effnet_ft.models.weights.table import WEIGHTS

# At every stride 64 px are even, padded on one side only, and 97 px are odd, padded on both, down to the last stage's.
SMALL = (64, 97)
IN_TORCHVISION = [name for name in VARIANTS if f"efficientnet_{name}" in torchvision.models.list_models()]


def native(variants: list[str]) -> list[object]:
    """Mark all but the two baselines as slow."""
    return [pytest.param(name, marks=() if name in ("b0", "lite0") else pytest.mark.slow) for name in variants]


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, drawn: Callable[..., Classifier]) -> Classifier:
    return drawn(request.param)


def reference(build: Callable[..., nn.Module], name: str, model: Classifier, layout: str) -> nn.Module:
    """Return the other project's network on the tensors of ``model``, every key matched."""
    with torch.device("meta"):
        other = build(name)
    state = key_maps.from_our_keys(model.state_dict(), model.variant, layout)
    other.load_state_dict(state, strict=True, assign=True)
    return other.eval()


def of_timm(model: Classifier) -> nn.Module:
    return reference(timm.create_model, f"tf_efficientnet_{model.variant.name}", model, "timm")


def as_torchvision_weights(model: Classifier) -> Classifier:
    """Return ``model`` with padding and epsilon of torchvision's weights, on the same tensors."""
    record = WEIGHTS[f"{model.variant.name}/torchvision"]
    with torch.device("meta"):
        twin = Classifier(model.variant.name, classes=model.classes, padding=record.padding, norm_eps=record.norm_eps)
    twin.load_state_dict(model.state_dict(), assign=True)
    twin.mean, twin.std = model.mean, model.std
    return twin.eval()


def drawn_images(model: Classifier, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return two images of random patches, 0..255, and the same normalised. Fine noise would pool to one grey."""
    patches = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(1), dtype=model.mean.dtype) * 255
    images = F.interpolate(patches, (height, width), mode="bilinear")
    return images, (images - model.mean) / model.std


def native_size(model: Classifier) -> tuple[int, int]:
    return model.variant.size, model.variant.size


def assert_same_logits(model: Classifier, other: nn.Module, height: int, width: int) -> None:
    images, normalised = drawn_images(model, height, width)
    with torch.inference_mode():
        ours, theirs = model(images), other(normalised)
    assert ours.shape == (2, 1000)
    extent = theirs.max() - theirs.min()
    assert (ours - theirs).abs().max() <= 1e-4 * extent
    assert (theirs[0] - theirs[1]).abs().max() > 0.02 * extent, "the logits hardly depend on the image"


@pytest.mark.parametrize("model", VARIANTS, indirect=True)
def test_logits_equal_timms(model: Classifier) -> None:
    assert_same_logits(model, of_timm(model), *SMALL)


@pytest.mark.parametrize("model", IN_TORCHVISION, indirect=True)
def test_logits_equal_torchvisions(model: Classifier) -> None:
    other = reference(torchvision.models.get_model, f"efficientnet_{model.variant.name}", model, "torchvision")
    assert_same_logits(as_torchvision_weights(model), other, *SMALL)


@pytest.mark.parametrize("model", native(list(VARIANTS)), indirect=True)
def test_logits_equal_timms_at_the_native_size(model: Classifier) -> None:
    assert_same_logits(model, of_timm(model), *native_size(model))


@pytest.mark.parametrize("model", native(IN_TORCHVISION), indirect=True)
def test_logits_equal_torchvisions_at_the_native_size(model: Classifier) -> None:
    other = reference(torchvision.models.get_model, f"efficientnet_{model.variant.name}", model, "torchvision")
    assert_same_logits(as_torchvision_weights(model), other, *native_size(model))


def assert_same_gradients(model: Classifier, other: nn.Module, layout: str) -> None:
    images, normalised = drawn_images(model, 64, 97)
    labels = torch.tensor([3, 5])
    F.cross_entropy(model.train()(images), labels).backward()
    F.cross_entropy(other.train()(normalised), labels).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = {name: parameter.grad for name, parameter in other.named_parameters()}
    ours = key_maps.from_our_keys(gradients, model.variant, layout)
    assert ours.keys() == theirs.keys()
    largest = max(gradient.abs().max() for gradient in theirs.values())
    for name, gradient in theirs.items():
        extent = gradient.abs().max()
        # The next batch norm takes away a shift that no residual carries on: that bias's gradient is rounding alone.
        assert (ours[name] - gradient).abs().max() <= 1e-4 * extent + 1e-12 * largest, name
        assert gradient.ndim == 1 or extent > 1e-9 * largest, f"{name} has no gradient"


@pytest.mark.parametrize("variant", native(list(VARIANTS)))
def test_gradients_equal_timms(variant: str, drawn: Callable[..., Classifier]) -> None:
    model = drawn(variant, dropout=0.0, drop_path=0.0).double()
    assert_same_gradients(model, of_timm(model), "timm")


@pytest.mark.parametrize("variant", native(IN_TORCHVISION))
def test_gradients_equal_torchvisions(variant: str, drawn: Callable[..., Classifier]) -> None:
    model = as_torchvision_weights(drawn(variant).double())
    model.set_rates(dropout=0.0, drop_path=0.0)
    build = partial(torchvision.models.get_model, dropout=0.0, stochastic_depth_prob=0.0)
    assert_same_gradients(model, reference(build, f"efficientnet_{variant}", model, "torchvision"), "torchvision")


@pytest.mark.parametrize("kernel", sorted({plan.kernel for plan in VARIANTS["b0"].stages()}))
@pytest.mark.parametrize("height", range(1, 9))
@pytest.mark.parametrize("width", [6, 7])
def test_same_padding(kernel: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    conv = SameConv2d.like(nn.Conv2d(4, 4, kernel, 2, groups=2))
    images = torch.randn(2, 4, height, width)
    # TensorFlow's rule, as it is documented there: the smaller half before, the larger half behind.
    rows, columns = (max(kernel - (length % 2 or 2), 0) for length in (height, width))
    canvas = torch.zeros(2, 4, height + rows, width + columns)
    canvas[:, :, rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width] = images
    expected = F.conv2d(canvas, conv.weight, conv.bias, stride=2, groups=2)
    assert expected.shape[2:] == (-(-height // 2), -(-width // 2))
    assert torch.allclose(conv(images), expected, atol=1e-6)


@pytest.fixture(scope="module", params=VARIANTS)
def shapes(request: pytest.FixtureRequest) -> Classifier:
    with torch.device("meta"):
        return Classifier(request.param, classes=imagenet_classes())


def stochastic_depths(model: Classifier) -> list[float]:
    return [module.p for module in model.stages.modules() if isinstance(module, StochasticDepth)]


def test_stochastic_depth(shapes: Classifier) -> None:
    blocks = sum(plan.blocks for plan in shapes.variant.stages())
    assert stochastic_depths(shapes) == pytest.approx([0.2 * block / blocks for block in range(blocks)])


def test_rates_set_later() -> None:
    model = Classifier("lite0", classes="ab")
    before = stochastic_depths(model)
    model.set_rates(dropout=0.7, drop_path=0.4)
    assert stochastic_depths(model) == pytest.approx([2 * rate for rate in before])
    assert model.head[0].p == 0.7


def test_batch_norms(shapes: Classifier) -> None:
    norms = [module for module in shapes.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_memory_format() -> None:
    model = Classifier("b0", classes="ab")
    kernels = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
