"""Weights put into a model that was made without drawing any, for to draw them takes longer than to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from effnet_ft.errors import WeightsError
from effnet_ft.utils.text import listing


@contextmanager
def skip_init() -> Iterator[None]:
    """Make models meanwhile without memory, on the meta device, and without drawing random numbers."""
    with torch.device("meta"), _Undrawn():
        yield


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into ``model``; batch counters that it lacks begin at 0, the rest that it lacks stays.

    Raises:
        WeightsError: for shapes that differ and for values that are not finite, with the keys.
    """
    own = model.state_dict()
    wrong = [
        f"{key}: {tuple(value.shape)}, the model has {tuple(own[key].shape)}"
        for key, value in state.items()
        if value.shape != own[key].shape
    ]
    if wrong:
        raise WeightsError(f"it does not fit, {len(wrong)} shapes differ:\n{listing(wrong, 5)}")
    for key, value in own.items():
        if key in state:
            value.copy_(state[key])
        elif key.endswith("num_batches_tracked"):
            value.zero_()
    if broken := [key for key in state if not _finite(own[key])]:
        raise WeightsError(f"{len(broken)} of its tensors hold NaN or infinity: damaged\n{listing(broken, 5)}")


class _Undrawn(TorchFunctionMode):
    """Leaves out the drawing of random numbers: on tensors without memory it takes longer than all the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **(kwargs or {}))


def _finite(values: Tensor) -> bool:
    # A sum is finite where all its terms are, but for a sum of huge ones; it reads every value once.
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())
