"""Runs exported programs, ONNX and ``torch.export``, in the place of the PyTorch network, on the CPU."""

import importlib
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from effnet_ft.errors import MissingPackageError, WeightsError


class Backend(ABC):
    """An exported program. It is pickled and copied by its path.

    Raises:
        WeightsError: if the file cannot be read.
        MissingPackageError: if a package that runs it is missing.
    """

    metadata: Mapping[str, str]  # of the file
    input_shape: list[Any]  # a dynamic dimension is not an int
    output_shape: list[Any]

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Map images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``; called by several threads at once."""


class OnnxBackend(Backend):
    """An ONNX file, run by onnxruntime; each call computes on one core."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        require_onnx_packages("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors, which are raised anyway; warnings are about its own choices
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many kinds of its own
            raise WeightsError(f"{path} cannot be read as ONNX: it is cut short or damaged ({error})") from error
        self.metadata = self._session.get_modelmeta().custom_metadata_map
        images, probabilities = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self.input_shape, self.output_shape = images.shape, probabilities.shape
        self._input = images.name

    def __call__(self, images: Tensor) -> Tensor:
        """Map images to probabilities."""
        return torch.from_numpy(self._session.run(None, {self._input: images.numpy()})[0])


class TorchExportBackend(Backend):
    """A ``.pt2`` file of ``torch.export``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with zipfile.ZipFile(path) as archive:
                extra = [name for name in archive.namelist() if "/extra/" in name]
                self.metadata = {name.partition("/extra/")[2]: archive.read(name).decode() for name in extra}
            with warnings.catch_warnings():  # torch 2.11 warns of how it reads its own files
                warnings.filterwarnings("ignore", "The given buffer is not writable")
                program = torch.export.load(path)
            self._module: Callable[[Tensor], Tensor] = program.module()
        except Exception as error:  # torch raises many kinds for a broken file
            reason = str(error).partition("\n")[0]
            raise WeightsError(f"{path} is a damaged program of torch.export: get it again ({reason})") from error
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        signature = program.graph_signature
        self.input_shape = list(values[signature.user_inputs[0]].shape)
        self.output_shape = list(values[signature.user_outputs[0]].shape)

    def __call__(self, images: Tensor) -> Tensor:
        """Map images to probabilities."""
        return self._module(images)


def open_backend(path: Path) -> Backend | None:
    """Open an exported program; None for another suffix, which alone decides, as loading a ``.pt2`` file runs code."""
    backend = {".onnx": OnnxBackend, ".pt2": TorchExportBackend}.get(path.suffix)
    return backend(path) if backend and path.is_file() else None


def require_onnx_packages(*packages: str) -> None:
    """Raise a MissingPackageError with the command that installs them if one of ``packages`` is missing."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"ONNX needs {error.name}, which is not installed: pip install 'effnet_ft[onnx]'"
            ) from error
