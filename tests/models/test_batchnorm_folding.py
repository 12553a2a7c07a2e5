"""Folded norms change nothing but the time it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier


@pytest.mark.parametrize(("variant", "padding"), [("b0", "same"), ("b1", "symmetric"), ("lite0", "same")])
def test_a_folded_network_computes_the_same(variant: str, padding: str, drawn: Callable[..., Classifier]) -> None:
    model = drawn(variant, classes=7, padding=padding)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.rand(2, 3, 64, 97).mul_(255)
    network = fold_batchnorm(model.double())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.no_grad():
        for (_, expected), (_, found) in zip(model.at_cuts(x, [1, 5, 9]), network.at_cuts(x, [1, 5, 9]), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
        torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value.double(), before[key].double()) for key, value in model.state_dict().items())


def test_a_model_in_training_is_folded_as_it_is_evaluated(drawn: Callable[..., Classifier]) -> None:
    model = drawn("lite0", classes=3)
    expected = model(torch.full((1, 3, 64, 64), 90.0))
    model.train()
    network = fold_batchnorm(model)
    assert model.training and not network.training
    torch.testing.assert_close(network(torch.full((1, 3, 64, 64), 90.0)), expected, rtol=1e-3, atol=1e-3)
