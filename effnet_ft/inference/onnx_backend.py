"""Runs ONNX files with onnxruntime."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from effnet_ft.errors import MissingPackageError, WeightsError


def require_onnx_packages(*packages: str) -> None:
    """Import packages that ONNX needs.

    Raises:
        MissingPackageError: with the command that installs a missing one.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"ONNX needs {error.name}, which is not installed: pip install 'effnet_ft[onnx]'"
            ) from error


class OnnxBackend:
    """An ONNX file as a :class:`~effnet_ft.inference.backends.Backend`; each call computes on one core.

    It is pickled and copied by its path.

    Raises:
        WeightsError: if the file cannot be read.
        MissingPackageError: if onnxruntime is missing.
    """

    def __init__(self, path: Path) -> None:
        require_onnx_packages("onnxruntime")
        import onnxruntime

        self.path = path.resolve()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors, which are raised anyway; warnings are about its own choices
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many kinds of its own
            raise WeightsError(f"{path} cannot be read as ONNX: it is cut short or damaged ({error})") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata."""
        return self._session.get_modelmeta().custom_metadata_map

    @property
    def shapes(self) -> tuple[list[Any], list[Any]]:
        """Shapes of the first input and output; a dynamic dimension is a name."""
        return self._session.get_inputs()[0].shape, self._session.get_outputs()[0].shape

    def __call__(self, images: Tensor) -> Tensor:
        """Map images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``."""
        name = self._session.get_inputs()[0].name
        probabilities: np.ndarray = self._session.run(None, {name: images.numpy()})[0]
        return torch.from_numpy(probabilities)
