"""Batch norms with statistics over the batches of all processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncedBatchNorm2d(nn.SyncBatchNorm, nn.BatchNorm2d):
    """PyTorch's synchronised batch norm, which only supports GPUs, extended to the CPU."""

    process_group = None

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[N, C, H, W]``; in training mode by mean and variance over the batches of all processes."""
        if not self.training or input.device.type != "cpu":
            return super().forward(input)
        count = _AllReduceSum.apply(torch.tensor(float(input.numel() // self.num_features)))
        mean = _AllReduceSum.apply(input.sum((0, 2, 3))) / count
        deviation = input - mean.view(1, -1, 1, 1)
        variance = _AllReduceSum.apply(deviation.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return deviation * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class _AllReduceSum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _AllReduceSum.forward(ctx, gradient)


@contextmanager
def sync_batchnorm(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Synchronise the trained batch norms of ``model`` within the block, if ``wanted``.

    The modules only change their class: parameters, statistics and names in checkpoints stay the same.
    """
    norms = [norm for norm in model.modules() if type(norm) is nn.BatchNorm2d and norm.weight.requires_grad]
    for norm in norms if wanted else ():
        norm.__class__ = SyncedBatchNorm2d
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
