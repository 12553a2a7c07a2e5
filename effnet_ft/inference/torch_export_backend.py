"""Runs programs of ``torch.export``, ``.pt2`` files."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from effnet_ft.errors import WeightsError

_EXTRA = "/extra/"


class TorchExportBackend:
    """A ``.pt2`` file as a :class:`~effnet_ft.inference.backends.Backend`. It is pickled and copied by its path.

    Raises:
        WeightsError: if the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        try:
            self.metadata: Mapping[str, str] = _read_metadata(path)
            with warnings.catch_warnings():  # torch 2.11 warns of how it reads its own files
                warnings.filterwarnings("ignore", "The given buffer is not writable")
                program = torch.export.load(path)
            self._module = program.module()
        except Exception as error:  # torch raises many kinds for a broken file
            reason = str(error).partition("\n")[0]
            raise WeightsError(f"{path} is a damaged program of torch.export: get it again ({reason})") from error
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        signature = program.graph_signature
        self.shapes: tuple[list[Any], list[Any]] = (
            list(values[signature.user_inputs[0]].shape),
            list(values[signature.user_outputs[0]].shape),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def __call__(self, images: Tensor) -> Tensor:
        """Map images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``."""
        probabilities: Tensor = self._module(images)
        return probabilities


def _read_metadata(path: Path) -> dict[str, str]:
    """Return the extra files of the archive by name."""
    with zipfile.ZipFile(path) as archive:
        extra = {name.partition(_EXTRA)[2]: archive.read(name) for name in archive.namelist() if _EXTRA in name}
    return {name: content.decode() for name, content in extra.items()}
