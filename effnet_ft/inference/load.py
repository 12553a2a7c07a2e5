"""Loads a trained model for prediction from a run, a checkpoint or an export of any format."""

import json
import os
from pathlib import Path

import torch

from effnet_ft.errors import WeightsError
from effnet_ft.inference.backends import Backend, open_backend
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.weights.files import DESCRIPTION
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.runs.run_folder import load_model


def load(path: str | os.PathLike[str], device: str | torch.device | None = None) -> Predictor:
    """Load a trained model: a run folder, a checkpoint or an export of any format.

    It runs on ``device``; None means a GPU if there is one. Exported programs run on the CPU.

    Raises:
        WeightsError: if it cannot be read.
    """
    file = Path(path).expanduser()
    backend = open_backend(file)
    if backend is None:
        return Predictor(load_model(path), device)
    if device is not None and torch.device(device).type != "cpu":
        raise WeightsError(f"{file} is a program for the CPU, not for '{device}': load the run, or export safetensors")
    return Predictor(_described_model(file, backend), backend=backend)


def _described_model(path: Path, backend: Backend) -> Classifier:
    """Return the model that a program's metadata describes, without weights."""
    if DESCRIPTION not in backend.metadata:
        raise WeightsError(f"{path} was not written by effnet_ft: its classes and preprocessing are not known")
    try:
        settings = json.loads(backend.metadata[DESCRIPTION])
        settings["preprocessing"] = Preprocessing.from_dict(settings["preprocessing"])
        with torch.device("meta"):
            model = Classifier(settings.pop("variant"), **settings).eval()
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged: its description cannot be read ({error!r}); export it again") from error
    size, classes = model.preprocessing.size, len(model.classes)
    if backend.input_shape[1:] != [3, size, size] or backend.output_shape[1:] != [classes]:
        raise WeightsError(
            f"{path} contradicts itself: it describes images of {size} px and {classes} classes, but maps "
            f"{backend.input_shape} to {backend.output_shape}: export it again"
        )
    return model
