"""Exports a trained model: writes a temporary file, checks it against the original, then renames it."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save

from effnet_ft.errors import ExportError
from effnet_ft.export.formats import loading_code, require_suffix
from effnet_ft.export.programs import ONNX_PACKAGES, export_metadata, write_onnx, write_torch_export
from effnet_ft.export.verification import CheckImages, checked_file, largest_difference, random_images
from effnet_ft.inference.backends import require_onnx_packages
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.weights.files import DESCRIPTION
from effnet_ft.models.weights.key_maps import from_our_keys

TOLERANCE = 1e-3  # the largest allowed difference of a probability between an export and the original


@dataclass(frozen=True)
class ExportResult:
    """The outcome of an export."""

    usage: str  # code that loads the file
    difference: float  # the largest difference of a probability from the original's
    checked_on: str  # the images it was checked on, in words


def export(model: Classifier, form: str, path: Path, images: CheckImages | None = None) -> ExportResult:
    """Write ``model`` to ``path`` and check it. No partial file is left after an error.

    Args:
        model: a trained model.
        form: a name in :data:`effnet_ft.export.formats.FORMATS`.
        path: with the suffix of the format; for libraries that read both, ``.safetensors`` selects that container.
        images: images to check it on; None means random ones.

    Raises:
        ExportError: if the other library has no such model or computes differently, or the file's predictions differ
            from the model's.
        UsageError: if the suffix does not fit the format.
        MissingPackageError: if a package is missing.
        MachineError: if the file cannot be written.
    """
    require_suffix(form, path)
    if form == "onnx":
        require_onnx_packages(*ONNX_PACKAGES)
    usage = loading_code(model, form, path)
    images = images or random_images()
    programs = {"onnx": write_onnx, "torch-export": write_torch_export}
    write = programs.get(form) or partial(_write_weights, form)
    with checked_file(path, partial(write, model)) as temporary:
        difference = largest_difference(model, temporary, images)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the export was refused and not kept: on {images.description} its probabilities differ from the "
                f"model's by up to {difference:.2g}, more than {TOLERANCE:g}; please report it"
            )
    return ExportResult(usage, difference, images.description)


def _write_weights(form: str, model: Classifier, path: Path) -> None:
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    description = model.describe()  # also in other libraries' files, so that they can be loaded here again
    metadata = {DESCRIPTION: json.dumps(description)}
    if form == "safetensors":
        metadata = export_metadata(model)
    else:
        state = from_our_keys(state, model.variant, form)
    if path.suffix == ".safetensors":
        path.write_bytes(save(state, {**metadata, "format": "pt"}))  # only the owner may read a file of save_file
    elif form == "openmmlab":
        dataset = {"classes": description["classes"]}
        torch.save({"state_dict": state, "meta": {"dataset_meta": dataset, DESCRIPTION: description}}, path)
    else:
        with_attribute = OrderedDict(state)  # attributes are saved too, and readers of state dicts ignore them
        setattr(with_attribute, DESCRIPTION, description)
        torch.save(with_attribute, path)
