"""Batch norms whose statistics are those of all processes' batches together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncedBatchNorm2d(nn.SyncBatchNorm, nn.BatchNorm2d):
    """PyTorch's synchronised batch norm, which knows graphics cards alone, for the CPU too."""

    process_group = None

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[N, C, H, W]``; while training, by mean and variance over the batches of all processes."""
        if not self.training or input.device.type != "cpu":
            return super().forward(input)
        count = _Sum.apply(torch.tensor(float(input.numel() // self.num_features)))
        mean = _Sum.apply(input.sum((0, 2, 3))) / count
        deviation = input - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(deviation.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self._follow(mean, variance * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return deviation * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if self.num_batches_tracked is not None:  # held still while a block is computed again
            self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


@contextmanager
def sync_batchnorm(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Synchronise the batch norms of ``model`` that train; frozen ones stay as they are.

    The modules change their class and stay the same otherwise: parameters, statistics and the names in checkpoints.

    Args:
        model: frozen as the phase wants it.
        wanted: without, nothing is done.
    """
    norms = [module for module in model.modules() if type(module) is nn.BatchNorm2d and _trains(module)]
    for norm in norms if wanted else ():
        norm.__class__ = SyncedBatchNorm2d
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d


def _trains(norm: nn.BatchNorm2d) -> bool:
    return norm.weight.requires_grad
