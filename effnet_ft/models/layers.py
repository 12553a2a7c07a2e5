"""Layers that torchvision's EfficientNet lacks: TensorFlow's "same" padding and a cosine classifier."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """A strided convolution with TensorFlow's "same" padding: the odd pixel goes to the bottom and the right."""

    @classmethod
    def like(cls, conv: nn.Conv2d) -> Self:
        """Return a convolution with "same" padding that shares the parameters of ``conv``."""
        same = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=conv.bias is not None,
            device="meta",
        )
        same.weight, same.bias = conv.weight, conv.bias
        return same

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, K, ceil(H / stride), ceil(W / stride)]``."""
        down, across = (
            max((-(-length // stride) - 1) * stride + kernel - length, 0)
            for length, stride, kernel in zip(input.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        padded = F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class CosineLinear(nn.Module):
    """Logits as the cosine between features and class vectors, times a learned positive ``scale``."""

    def __init__(self, in_features: int, num_classes: int, scale: float = 16.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        self.log_scale = nn.Parameter(torch.tensor(scale).log())
        nn.init.normal_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[N, in_features]`` to logits ``[N, num_classes]`` within plus and minus the scale."""
        cosine = F.linear(F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1))
        return self.log_scale.exp() * cosine
