"""Exports a trained model: the file is written aside, checked against the original, and only then given its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_ft.errors import ExportError
from effnet_ft.export import onnx, other_libraries, torch_export
from effnet_ft.export.formats import require_ending
from effnet_ft.export.partial_file import naming_file_on_error, partial_file
from effnet_ft.export.verification import CheckImages, largest_difference, random_images

if TYPE_CHECKING:
    from effnet_ft.models.classifier import Classifier

LIMIT = 1e-3
"""The largest difference of a probability that an export may have from the original."""


@dataclass(frozen=True)
class ExportResult:
    """What came of an export.

    Attributes:
        usage: the code that loads the file.
        difference: the largest of any probability from the original's, on :attr:`pictures`.
        pictures: what it was checked on, in words.
    """

    usage: str
    difference: float
    pictures: str


def export(model: Classifier, form: str, path: Path, pictures: CheckImages | None = None) -> ExportResult:
    """Write ``model`` to ``path``, checked.

    Args:
        model: a trained model.
        form: a name in :data:`effnet_ft.export.formats.FORMATS`.
        path: ending as the format wants it; where libraries read both, in ``.safetensors`` for that container.
        pictures: images to check it on; None draws some.

    Raises:
        ExportError: where the other library has no such model or would compute other numbers from it, or the file's
            predictions differ from the model's.
        UsageError: where the file's ending does not fit the format.
        MissingPackageError: where a package is missing.
        MachineError: where the file cannot be written. No part of it is left after any of these.
    """
    require_ending(form, path)
    usage, write = _writer(model, form, path)
    pictures = pictures or random_images()
    with partial_file(path) as temporary:
        with naming_file_on_error(path):
            write(temporary)
        difference = largest_difference(model, temporary, pictures)
        if not difference <= LIMIT:
            raise ExportError(
                f"the export was refused and not kept: on {pictures.words} its probabilities differ from the "
                f"model's by up to {difference:.2g}, more than {LIMIT:g}; please report it"
            )
        with naming_file_on_error(path):
            os.replace(temporary, path)
    return ExportResult(usage, difference, pictures.words)


def _writer(model: Classifier, form: str, path: Path) -> tuple[str, Callable[[Path], None]]:
    """Return the code that loads the file, and what writes it."""
    own = f"effnet_ft.load({other_libraries.quoted(path)})"
    if form == "onnx":
        onnx.require(*onnx.WRITING)
        return own, partial(onnx.write, model)
    if form == "torch-export":
        return own, partial(torch_export.write, model)
    if form == "safetensors":
        return own, partial(_write_own, model)
    return other_libraries.usage_of(model, form, path), partial(other_libraries.write, model, form)


def _write_own(model: Classifier, path: Path) -> None:
    from safetensors.torch import save

    from effnet_ft.export.exported_network import metadata

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    # Its save_file makes files that nobody but their owner may read.
    path.write_bytes(save(state, {**metadata(model), "format": "pt"}))
