"""Every head of the table, and a head that a user adds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.models.heads import HEADS
from effnet_ft.models.layers import CosineLinear
from effnet_ft.models.variants import VARIANTS


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> nn.Sequential:
    torch.manual_seed(0)
    return HEADS[request.param](24, 7, 0.3)


def test_shape_and_gradients(head: nn.Sequential) -> None:
    logits = head(torch.randn(5, 24))
    assert logits.shape == (5, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_dropout_rate_arrives(head: nn.Sequential) -> None:
    assert [module.p for module in head.modules() if isinstance(module, nn.Dropout)] == [0.3]


@pytest.mark.parametrize("name", HEADS)
def test_rates_of_a_classifier(name: str) -> None:
    with torch.device("meta"):
        paper, own = (Classifier("b4", classes="abc", head=name, dropout=rate) for rate in (None, 0.1))
    rates = [[module.p for module in model.head.modules() if isinstance(module, nn.Dropout)] for model in (paper, own)]
    assert rates == [[VARIANTS["b4"].dropout], [0.1]]


def test_cosine_ignores_length_and_keeps_to_its_scale() -> None:
    torch.manual_seed(0)
    layer = CosineLinear(24, 7, scale=4.0)
    features = torch.cat([torch.randn(50, 24), 3 * layer.weight.detach()])
    logits = layer(features)
    assert torch.allclose(layer(features * 1000), logits, atol=1e-5)
    assert logits.abs().max().item() == pytest.approx(4.0)  # reached where features lie along a class vector
    assert logits[50:].argmax(1).tolist() == list(range(7))


def test_a_head_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(in_features: int, num_classes: int, dropout: float) -> nn.Sequential:
        return nn.Sequential(nn.Linear(in_features, num_classes, bias=False))

    monkeypatch.setitem(HEADS, "bare", bare)
    model = create_model("lite0", "none", num_classes=3, head="bare")
    assert [tuple(parameter.shape) for parameter in model.head.parameters()] == [(3, model.variant.features)]
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    assert Classifier.rebuild(model.describe(), model.state_dict()).head[0].bias is None
