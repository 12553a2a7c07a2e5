"""Fine-tune pretrained EfficientNets on your images: one recipe, one command.

The public names are imported on first use, so that ``import effnet_ft`` and the command line's help stay free of torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# albumentations asks the network for its newest version when it is imported; a training tool must not.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = "0.1.0"

_PUBLIC = {
    "create_model": "effnet_ft.models.creation",
    "load": "effnet_ft.inference.load",
    "load_recipe": "effnet_ft.recipe",
    "train": "effnet_ft.training.fit",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from effnet_ft.inference.load import load as load
    from effnet_ft.models.creation import create_model as create_model
    from effnet_ft.recipe import load_recipe as load_recipe
    from effnet_ft.training.fit import train as train


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'effnet_ft' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
