"""The table of architectures against published figures, timm's numbers and the networks that are built from it."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models._efficientnet_builder import round_channels
from torch import nn

from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import STAGES, VARIANTS, scaled_channels

# Published: parameters in millions, multiply-adds in 1e9 at the native size, blocks of stages 1 to 7.
REFERENCE = {
    "b0": (5.29, 0.39, [1, 2, 2, 3, 3, 4, 1]),
    "b1": (7.79, 0.69, [2, 3, 3, 4, 4, 5, 2]),
    "b2": (9.11, 0.99, [2, 3, 3, 4, 4, 5, 2]),
    "b3": (12.23, 1.83, [2, 3, 3, 5, 5, 6, 2]),
    "b4": (19.34, 4.39, [2, 4, 4, 6, 6, 8, 2]),
    "b5": (30.39, 10.27, [3, 5, 5, 7, 7, 9, 3]),
    "b6": (43.04, 19.07, [3, 6, 6, 8, 8, 11, 3]),
    "b7": (66.35, 37.75, [4, 7, 7, 10, 10, 13, 4]),
    "b8": (87.41, 62.60, [4, 8, 8, 11, 11, 15, 4]),
    "lite0": (4.65, 0.39, [1, 2, 2, 3, 3, 4, 1]),
    "lite1": (5.42, 0.60, [1, 3, 3, 4, 4, 5, 1]),
    "lite2": (6.09, 0.86, [1, 3, 3, 4, 4, 5, 1]),
    "lite3": (8.20, 1.61, [1, 3, 3, 5, 5, 6, 1]),
    "lite4": (13.01, 3.94, [1, 4, 4, 6, 6, 8, 1]),
}


@pytest.fixture(scope="module", params=VARIANTS)
def model(request: pytest.FixtureRequest) -> Classifier:
    """Every variant, shapes only."""
    with torch.device("meta"):
        return Classifier(request.param, classes=imagenet_classes()).eval()


def multiply_adds(model: Classifier) -> int:
    """Count those of convolutions and linear layers for one image at the native size."""
    counts = []

    def count(layer: nn.Conv2d | nn.Linear, _: object, output: torch.Tensor) -> None:
        counts.append(output[0].numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model(torch.empty(1, 3, model.variant.size, model.variant.size, device="meta"))
    return sum(counts)


def test_every_variant_has_a_reference() -> None:
    assert list(REFERENCE) == list(VARIANTS)


def test_parameters(model: Classifier) -> None:
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == model.variant.parameters
    assert round(count / 1e6, 2) == REFERENCE[model.variant.name][0]


def test_multiply_adds(model: Classifier) -> None:
    count = round(multiply_adds(model) / 1e9, 2)
    assert count == model.variant.gmacs == REFERENCE[model.variant.name][1]


def test_blocks(model: Classifier) -> None:
    planned = [plan.blocks for plan in model.variant.stages()]
    built = [len(stage) for stage in model.stages[1 : STAGES - 1]]
    assert planned == built == REFERENCE[model.variant.name][2]


def test_widths(model: Classifier) -> None:
    name = f"tf_efficientnet_{model.variant.name}"
    with torch.device("meta"):
        reference = timm.create_model(name)
    assert model.variant.features == reference.num_features
    assert model.variant.stem_channels == reference.conv_stem.out_channels
    sizes = [plan.output_channels for plan in model.variant.stages()]
    assert sizes == [
        blocks[-1](torch.empty(1, width, 8, 8, device="meta")).shape[1] for blocks, width in inputs(reference)
    ]


def inputs(reference: nn.Module) -> list[tuple[nn.Module, int]]:
    """Pair timm's stages with the channels that enter them."""
    return [(stage, next(stage[-1].children()).in_channels) for stage in reference.blocks]


@pytest.mark.parametrize("width", sorted({variant.width for variant in VARIANTS.values()}))
def test_scaled_channels(width: float) -> None:
    for channels in range(1, 1400):
        assert scaled_channels(channels, width) == round_channels(channels, width)


def test_scaled_channels_never_lose_a_tenth() -> None:
    assert scaled_channels(10, 1.0) == 16  # 8 is nearer, and a fifth less
    assert scaled_channels(1, 1.0) == 8
