"""Activation checkpointing: blocks store only their inputs and recompute activations in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.efficientnet import MBConv


def checkpointed(stage: nn.Module, x: Tensor) -> Tensor:
    """Run the inverted residuals of a stage, or a stage without any as a whole, with activation checkpointing."""
    for block in [block for block in stage.children() if isinstance(block, MBConv)] or [stage]:
        x = checkpoint(block, x, use_reentrant=False, context_fn=partial(_contexts, block))
    return x


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of the forward pass and of the recomputation, which must not update statistics again."""
    return nullcontext(), _frozen_statistics(block)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d) and module.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, tracked) in zip(norms, before, strict=True):
        norm.momentum = 0.0
        norm.num_batches_tracked = None if tracked is None else tracked.clone()  # a synchronised norm must have one
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
