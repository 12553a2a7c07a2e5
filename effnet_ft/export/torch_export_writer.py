"""Writes programs of ``torch.export``, ``.pt2`` files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effnet_ft.models.classifier import Classifier


def write_torch_export(model: Classifier, path: Path) -> None:
    """Write ``model`` as a program of ``torch.export`` for any batch size.

    Raises:
        OSError, RuntimeError: if it cannot be written.
    """
    import torch

    from effnet_ft.export.exported_network import export_metadata, trace

    torch.export.save(trace(model, channels_last=True), path, extra_files=export_metadata(model))
