"""Programs from prepared images to probabilities: ONNX files and ``.pt2`` files of ``torch.export``."""

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from effnet_ft import __version__
from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.weights.files import DESCRIPTION
from effnet_ft.preprocessing import Preprocessing

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # packages that write and check an ONNX file
INPUT = "images"  # name of a program's input


class ExportedNetwork(nn.Module):
    """A copy of ``model`` that maps images, uint8 ``[N, 3, size, size]``, RGB, to probabilities ``[N, K]``, float32.

    ``channels_last`` is PyTorch's faster memory format, of no use to other runtimes.
    """

    def __init__(self, model: Classifier, *, channels_last: bool) -> None:
        super().__init__()
        # Weights are stored contiguously, whatever the memory format of the activations.
        self.network = fold_batchnorm(model).to(memory_format=torch.contiguous_format)
        self.network.cut = 0
        for module in self.network.modules():
            if isinstance(module, nn.ReLU6 | nn.SiLU):
                module.inplace = False  # programs have none, and the exporter takes long to undo it
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        """Map images to probabilities."""
        network = self.network
        if self.channels_last:
            return network.probabilities(network(images))
        normalised = (images.to(network.mean.dtype) - network.mean) / network.std
        return network.probabilities(network.suffix(normalised))


def trace(model: Classifier, *, channels_last: bool) -> ExportedProgram:
    """Return ``model`` as a program for any batch size, at the image size of its preprocessing."""
    network = ExportedNetwork(model, channels_last=channels_last).eval()
    images = torch.zeros(2, 3, model.preprocessing.size, model.preprocessing.size, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(network, (images,), dynamic_shapes=({0: Dim("batch", min=1)},))


def write_onnx(model: Classifier, path: Path) -> None:
    """Write ``model`` as a self-contained ONNX file for any batch size."""
    exported = trace(model, channels_last=False)
    inputs, outputs, batch = [INPUT], ["probabilities"], ({0: "batch"},)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch 2.11 warns of its own exporter
        program = torch.onnx.export(
            exported, input_names=inputs, output_names=outputs, dynamic_shapes=batch, dynamo=True, verbose=False
        )
    assert program is not None
    program.model.metadata_props.update(export_metadata(model))
    path.write_bytes(program.model_proto.SerializeToString())


def write_torch_export(model: Classifier, path: Path) -> None:
    """Write ``model`` as a program of ``torch.export`` for any batch size."""
    torch.export.save(trace(model, channels_last=True), path, extra_files=export_metadata(model))


def export_metadata(model: Classifier) -> dict[str, str]:
    """Return the metadata of a file: the model's description as JSON, and its input and output in words."""
    kind = "of each label by itself" if model.multilabel else "of the classes, rows sum to 1"
    return {
        DESCRIPTION: json.dumps(model.describe()),
        "effnet_ft_version": __version__,
        "input": describe_input(model.preprocessing),
        "output": f"probabilities {kind}, float32 [N, {len(model.classes)}], in the order of {DESCRIPTION}'s classes",
    }


def describe_input(view: Preprocessing) -> str:
    """Return how images must be prepared for a program, which normalises them itself."""
    if view.crop == "openmmlab":
        steps = (
            f"the central square of {view.size / view.resize:.4f} of the short side is cropped, then resized to "
            f"{view.size} px ({view.interpolation}, not antialiased)"
        )
    else:
        steps = (
            f"the short side is resized to {view.resize} px ({view.interpolation}, antialiased), then the central "
            f"square of {view.size} px cropped"
        )
    return f"RGB images, uint8 [N, 3, {view.size}, {view.size}], 0..255, not normalised: {steps}"
