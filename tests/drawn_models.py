"""Models with random weights that tell images apart, for tests of what leaves the project."""

from __future__ import annotations

import torch
from torch import nn

from effnet_ft.models.classifier import Classifier
from effnet_ft.preprocessing import Preprocessing

CLASSES = ("daisy", "lavender", "tulip")
VIEW = Preprocessing(64, 80, "bilinear", "openmmlab", (127.5, 120.0, 110.0), (60.0, 65.0, 70.0))


def drawn(variant: str, **settings: object) -> Classifier:
    """Return a model with random weights, and batch-norm statistics that keep the signal alive."""
    torch.manual_seed(0)
    model = Classifier(variant, classes=CLASSES, **{"preprocessing": VIEW, **settings})
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        norm.momentum = None
    with torch.no_grad():
        model.train()(noise(4))
    return model.eval()


def noise(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64).mul_(255)
