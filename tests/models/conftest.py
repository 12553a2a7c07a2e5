"""Networks whose every tensor is random and whose signal lives to the last layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from effnet_ft.models.classifier import Classifier


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Classifier]:
    """Build a classifier in evaluation mode with random weights, biases and batch-norm statistics.

    Statistics start from those of a noise batch: with any others the signal would fade from block to block, and two
    networks would agree however different they are.
    """

    def build(variant: str, classes: int = 1000, **settings: object) -> Classifier:
        torch.manual_seed(0)
        model = Classifier(variant, classes=[str(number) for number in range(classes)], **settings)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.normal_(std=0.2)
            for norm in norms:
                norm.weight.uniform_(0.5, 1.5)
                norm.momentum = None
            model.train()(noise(4, 64, 64))
            for norm in norms:
                norm.momentum = 0.01
                norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
                norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.5, 1.5)
        return model.eval()

    return build


def noise(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width).mul_(255)
