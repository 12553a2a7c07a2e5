"""Batch norms with statistics over the batches of all processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

_all_reduce: Callable[[Tensor], Tensor] = all_reduce


class SyncedBatchNorm2d(nn.SyncBatchNorm, nn.BatchNorm2d):
    """PyTorch's synchronised batch norm, which DDP refuses on the CPU."""

    process_group = None


class SyncedBatchNorm2dOnCPU(nn.BatchNorm2d):
    """The same on the CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[N, C, H, W]``; in training mode by mean and variance over the batches of all processes."""
        if not self.training:
            return super().forward(input)
        count = _all_reduce(torch.tensor(float(input.numel() // self.num_features)))
        mean = _all_reduce(input.sum((0, 2, 3))) / count
        deviation = input - mean.view(1, -1, 1, 1)
        variance = _all_reduce(deviation.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return deviation * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


@contextmanager
def sync_batchnorm(model: nn.Module, wanted: bool, device: torch.device) -> Iterator[None]:
    """Synchronise the trained batch norms of ``model``, to be trained on ``device``, within the block, if ``wanted``.

    The modules only change their class: parameters, statistics and names in checkpoints stay the same.
    """
    norms = [norm for norm in model.modules() if type(norm) is nn.BatchNorm2d and norm.weight.requires_grad]
    for norm in norms if wanted else ():
        norm.__class__ = SyncedBatchNorm2dOnCPU if device.type == "cpu" else SyncedBatchNorm2d
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
