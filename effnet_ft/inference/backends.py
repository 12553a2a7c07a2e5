"""Exported programs that a predictor can run in the place of the PyTorch network. Free of torch until one is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

PROGRAMS = {"onnx": ".onnx", "torch-export": ".pt2"}  # formats of exported programs, with their file endings


class Backend(Protocol):
    """A network that runs without this project's model code, on the CPU."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata."""

    @property
    def shapes(self) -> tuple[list[Any], list[Any]]:
        """Shapes of input and output; a dynamic dimension is not an int."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``; called by several threads at once."""


def open_backend(path: Path) -> Backend | None:
    """Open an exported program, or return None if the file name has another ending.

    The ending decides, since loading a ``.pt2`` file runs the program in it.

    Raises:
        WeightsError: if the file is damaged.
        MissingPackageError: if onnxruntime is missing.
    """
    if not path.is_file():
        return None
    if path.suffix == PROGRAMS["onnx"]:
        from effnet_ft.inference.onnx_backend import OnnxBackend

        return OnnxBackend(path)
    if path.suffix == PROGRAMS["torch-export"]:
        from effnet_ft.inference.torch_export_backend import TorchExportBackend

        return TorchExportBackend(path)
    return None
