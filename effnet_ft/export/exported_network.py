"""The network of an exported program, from prepared images to probabilities, and the file's metadata."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from effnet_ft import __version__
from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.weights.files import DESCRIPTION
from effnet_ft.preprocessing import Preprocessing

INPUT, OUTPUT = "images", "probabilities"  # names of a program's input and output


class ExportedNetwork(nn.Module):
    """Maps images, uint8 ``[N, 3, size, size]``, RGB, 0..255, to probabilities ``[N, K]``, float32.

    Args:
        model: the trained model, which is copied.
        channels_last: use PyTorch's faster memory format, of no use to other runtimes.
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
    size = model.preprocessing.size
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(
            ExportedNetwork(model, channels_last=channels_last).eval(),
            (images,),
            dynamic_shapes=({0: Dim("batch", min=1)},),
        )


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
        share = view.size / view.resize
        steps = (
            f"the central square of {share:.4f} of the short side is cropped, then resized to {view.size} px "
            f"({view.interpolation}, not antialiased)"
        )
    else:
        steps = (
            f"the short side is resized to {view.resize} px ({view.interpolation}, antialiased), then the central "
            f"square of {view.size} px cropped"
        )
    return f"RGB images, uint8 [N, 3, {view.size}, {view.size}], 0..255, not normalised: {steps}"
