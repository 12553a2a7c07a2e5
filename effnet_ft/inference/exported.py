"""Serves exported programs as trained models are served: the same predictor, another network inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from effnet_ft.data.images.image_like import ImageLike
from effnet_ft.errors import WeightsError
from effnet_ft.export.formats import PROGRAMS
from effnet_ft.export.onnx import OnnxProgram
from effnet_ft.export.torch_export import TorchProgram
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.weights.files import DESCRIPTION
from effnet_ft.preprocessing import Preprocessing


class ExportedProgram(Protocol):
    """A network that runs without the code of this project."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""

    @property
    def shapes(self) -> tuple[list[Any], list[Any]]:
        """Shapes of input and output; a length that is not fixed is no number."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map images, uint8 ``[N, 3, size, size]``, to probabilities ``[N, K]``."""


class ProgramPredictor(Predictor):
    """A predictor whose network is an exported program, on the CPU.

    Its ``model`` has what the file describes, classes, preprocessing and thresholds, and no weights.

    Args:
        program: the network.
        model: what it describes, see :func:`model_of`.
    """

    def __init__(self, program: ExportedProgram, model: Classifier) -> None:
        self.device = torch.device("cpu")
        self.model = model
        self._program = program

    def logits(self, images: Sequence[ImageLike], batch_size: int = 32, title: str = "predicting") -> np.ndarray:
        """Return logits that have the program's probabilities, ``[N, K]``; those of classes are any but for a sum."""
        p = np.clip(self.probabilities(images, batch_size, title).astype(np.float64), 1e-30, None)
        odds = np.log(p) - (np.log1p(-np.minimum(p, 1 - 1e-7)) if self.model.multilabel else 0)
        return (self.model.temperature * odds).astype(np.float32)

    @property
    def _network(self) -> Classifier:  # type: ignore[override]  # it is not there to be set either
        raise WeightsError("an exported program has no layers to look into: take the run, or an export as safetensors")

    def _compute(self, images: Tensor) -> Tensor:
        return self._program(images)


def load_exported(path: Path, device: str | torch.device | None = None) -> ProgramPredictor | None:
    """Return the predictor of an exported program, or None where ``path`` is none by its ending.

    PyTorch runs what is in a ``.pt2`` file: only one that says so by its name is taken for a program.

    Raises:
        WeightsError: where the program is damaged, not one of ours, or asked for on another device than the CPU.
    """
    kinds: dict[str, type[OnnxProgram] | type[TorchProgram]] = {"onnx": OnnxProgram, "torch-export": TorchProgram}
    kind = next((kinds[form] for form, ending in PROGRAMS.items() if path.suffix == ending), None)
    if kind is None or not path.is_file():
        return None
    if device is not None and torch.device(device).type != "cpu":
        raise WeightsError(f"{path} is a program for the CPU, not for '{device}': load the run, or export safetensors")
    program = kind(path)
    try:
        model = model_of(program.metadata)
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from error
    size, classes = model.preprocessing.size, len(model.classes)
    images, answers = program.shapes
    if images[1:] != [3, size, size] or answers[1:] != [classes]:
        raise WeightsError(
            f"{path} contradicts itself: it describes images of {size} px and {classes} classes, but maps "
            f"{images} to {answers}: export it again"
        )
    return ProgramPredictor(program, model)


def model_of(metadata: Mapping[str, str]) -> Classifier:
    """Return the model that a program's metadata describe, without weights.

    Raises:
        WeightsError: where they describe none, or not as we do.
    """
    if DESCRIPTION not in metadata:
        raise WeightsError("was not written by effnet_ft: its classes and preprocessing are not known")
    try:
        settings = json.loads(metadata[DESCRIPTION])
        settings["preprocessing"] = Preprocessing.from_dict(settings["preprocessing"])
        with torch.device("meta"):
            return Classifier(settings.pop("variant"), **settings).eval()
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise WeightsError(f"is damaged: its description cannot be read ({error!r}); export it again") from error
