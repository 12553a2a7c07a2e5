"""Writes ONNX files with PyTorch's exporter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effnet_ft.models.classifier import Classifier

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # packages that write and check an ONNX file


def write_onnx(model: Classifier, path: Path) -> None:
    """Write ``model`` as a self-contained ONNX file for any batch size.

    Raises:
        OSError: if it cannot be written.
        MissingPackageError: if a package is missing.
    """
    from effnet_ft.inference.onnx_backend import require_onnx_packages

    require_onnx_packages(*ONNX_PACKAGES)
    import torch

    from effnet_ft.export.exported_network import INPUT, OUTPUT, export_metadata, trace

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
    program.model.metadata_props.update(export_metadata(model))
    path.write_bytes(program.model_proto.SerializeToString())
