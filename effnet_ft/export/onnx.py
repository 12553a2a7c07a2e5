"""ONNX files: written by PyTorch's exporter, run by onnxruntime."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnet_ft.errors import MissingPackageError, WeightsError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from effnet_ft.models.classifier import Classifier


WRITING = ("onnx", "onnxscript", "onnxruntime")
"""Packages that write an ONNX file and check it; reading one needs the last alone."""


def require(*packages: str) -> None:
    """Import what ONNX needs.

    Raises:
        MissingPackageError: where a package is not installed, with the command that installs it.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"ONNX needs {error.name}, which is not installed: pip install 'effnet_ft[onnx]'"
            ) from error


def write(model: Classifier, path: Path) -> None:
    """Write ``model`` as an ONNX file, self-contained, for batches of any size.

    Raises:
        OSError: where it cannot be written.
        MissingPackageError: where a package is missing.
    """
    require(*WRITING)
    import torch

    from effnet_ft.export.exported_network import INPUT, OUTPUT, metadata, trace

    exported = trace(model, channels_last=False)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch 2.11 warns of its own exporter
        program = torch.onnx.export(
            exported,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: "batch"},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(metadata(model))
    path.write_bytes(program.model_proto.SerializeToString())


class OnnxProgram:
    """An ONNX file, ready to run. Several threads may call it at once: each computes alone, on one core.

    Args:
        path: the file.

    Raises:
        WeightsError: where it cannot be read.
        MissingPackageError: where onnxruntime is missing.
    """

    def __init__(self, path: Path) -> None:
        require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors: they are raised, and its warnings are about its own choices
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many kinds, all of them onnxruntime's own
            raise WeightsError(f"{path} cannot be read as ONNX: it is cut short or damaged ({error})") from error

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        return self._session.get_modelmeta().custom_metadata_map

    @property
    def shapes(self) -> tuple[list[Any], list[Any]]:
        """Shapes of the first input and of the first output; a length that is not fixed is a name."""
        return self._session.get_inputs()[0].shape, self._session.get_outputs()[0].shape

    def __call__(self, images: Tensor) -> Tensor:
        """Map images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``."""
        import torch

        name = self._session.get_inputs()[0].name
        answer: np.ndarray = self._session.run(None, {name: images.numpy()})[0]
        return torch.from_numpy(answer)
