"""Builds models without initialising their weights, which takes longer than reading them, and loads a state dict."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from effnet_ft.errors import WeightsError
from effnet_ft.utils.text import counted, listing


@contextmanager
def skip_init() -> Iterator[None]:
    """Build models on the meta device, without random numbers."""
    with torch.device("meta"), _SkipRandom():
        yield


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into ``model``; missing ``num_batches_tracked`` become 0, other missing entries stay.

    Raises:
        WeightsError: for other shapes and for values that are not finite, with the keys.
    """
    own = model.state_dict()
    wrong = [
        f"{key}: {tuple(value.shape)}, the model has {tuple(own[key].shape)}"
        for key, value in state.items()
        if value.shape != own[key].shape
    ]
    if wrong:
        raise WeightsError(f"it does not fit: {counted(len(wrong), 'different shape')}\n{listing(wrong, 5)}")
    for key, value in own.items():
        if key in state:
            value.copy_(state[key])
        elif key.endswith("num_batches_tracked"):
            value.zero_()
    # The sum is fast, and finite if all values are, unless huge ones overflow.
    if broken := [key for key in state if not (own[key].sum().isfinite() or own[key].isfinite().all())]:
        raise WeightsError(f"NaN or infinity in {counted(len(broken), 'tensor')}: damaged\n{listing(broken, 5)}")


class _SkipRandom(TorchFunctionMode):
    """Skips random initialisation, which on the meta device takes longer than all the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **(kwargs or {}))
