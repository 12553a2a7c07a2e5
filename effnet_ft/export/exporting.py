"""Exports a trained model: writes a temporary file, checks it against the original, then renames it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from safetensors.torch import save

from effnet_ft.errors import ExportError
from effnet_ft.export.formats import require_suffix
from effnet_ft.export.other_libraries import loading_code, python_literal, write_library_weights
from effnet_ft.export.programs import ONNX_PACKAGES, export_metadata, write_onnx, write_torch_export
from effnet_ft.export.temporary_file import checked_file
from effnet_ft.export.verification import CheckImages, largest_difference, random_images
from effnet_ft.inference.backends import require_onnx_packages
from effnet_ft.models.classifier import Classifier

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
    usage, write = _writer(model, form, path)
    images = images or random_images()
    with checked_file(path, write) as temporary:
        difference = largest_difference(model, temporary, images)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the export was refused and not kept: on {images.description} its probabilities differ from the "
                f"model's by up to {difference:.2g}, more than {TOLERANCE:g}; please report it"
            )
    return ExportResult(usage, difference, images.description)


def _writer(model: Classifier, form: str, path: Path) -> tuple[str, Callable[[Path], None]]:
    """Return the code that loads the file, and the function that writes it."""
    usage = f"effnet_ft.load({python_literal(path)})"
    if form == "onnx":
        require_onnx_packages(*ONNX_PACKAGES)
        return usage, partial(write_onnx, model)
    if form == "torch-export":
        return usage, partial(write_torch_export, model)
    if form == "safetensors":
        return usage, partial(_write_safetensors, model)
    return loading_code(model, form, path), partial(write_library_weights, model, form)


def _write_safetensors(model: Classifier, path: Path) -> None:
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    path.write_bytes(save(state, {**export_metadata(model), "format": "pt"}))  # save_file's would be private files
