"""Classifier heads on the pooled features. To add one, write a function and a line in ``HEADS``.

Torch is imported inside the functions, as recipes are checked against the table without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

Head = Callable[[int, int, float], "nn.Sequential"]
"""Builds a head, ``[N, F]`` to ``[N, K]``, from the number of features, the number of classes and the dropout rate."""


def linear(in_features: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Return dropout and a linear layer, as in the paper and every published checkpoint."""
    from torch import nn

    layer = nn.Linear(in_features, num_classes)
    nn.init.normal_(layer.weight, std=0.01)  # small, to begin near the uniform prediction
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Dropout(dropout), layer)


def mlp(in_features: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Return a hidden layer of 512 with layer norm (which works on single images) and SiLU, then :func:`linear`."""
    from torch import nn

    hidden = nn.Sequential(nn.Linear(in_features, 512), nn.LayerNorm(512), nn.SiLU())
    return nn.Sequential(*hidden, *linear(512, num_classes, dropout))


def cosine(in_features: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Return dropout and a cosine classifier with a learned temperature."""
    from torch import nn

    from effnet_ft.models.layers import CosineLinear

    return nn.Sequential(nn.Dropout(dropout), CosineLinear(in_features, num_classes))


HEADS: dict[str, Head] = {"linear": linear, "mlp": mlp, "cosine": cosine}
