"""``effnet-ft predict``: classifies images found by path, folder or pattern, and writes CSV."""

import glob
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from effnet_ft.data.images.decoding import has_image_suffix
from effnet_ft.data.images.unreadable import find_unreadable
from effnet_ft.data.sources.folder import walk_files
from effnet_ft.data.sources.source import CAMERA_SUFFIXES
from effnet_ft.errors import DataError
from effnet_ft.inference.load import load
from effnet_ft.inference.predictions import join_labels
from effnet_ft.inference.predictor import Predictor
from effnet_ft.inference.selective_prediction import confidence_threshold
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.tables import write_csv
from effnet_ft.utils.text import listing


def predict_files(
    model: str, paths: Sequence[str], top_k: int, out: str | None = None, precision: float | None = None
) -> dict[str, str]:
    """Write the most likely classes of every image found, one row per image, best first.

    In a multi-label model all predicted labels share one cell, joined by ``|``, and so do their probabilities. With
    ``precision`` a last column marks images that the model abstains from; their prediction is empty.

    Args:
        model: a run folder or a checkpoint.
        paths: files, folders (searched to any depth) and glob patterns.
        top_k: classes per image.
        out: the CSV file; None prints.
        precision: the share of predictions that should be right; None never abstains.

    Returns:
        Why files could not be read, by path; they are listed on standard error and have no row.

    Raises:
        DataError: if a path matches no image, or the model cannot reach ``precision``.
        WeightsError: if the model cannot be read.
    """
    found = find_images(paths)
    predictor = load(model)
    threshold = 0.0 if precision is None else confidence_threshold(predictor.model.record, precision)
    unreadable = find_unreadable(Path(), found)
    images = [path for path in found if path not in unreadable]
    probabilities = predictor.probabilities(images)
    confident = probabilities.max(1) >= threshold
    count = 1 if predictor.model.multilabel else min(top_k, len(predictor.classes))
    header = ["path", "prediction", "probability"]
    header += [f"{name}_{rank}" for rank in range(2, count + 1) for name in ("prediction", "probability")]
    table = [[path, *_cells(predictor, row, top_k)] for path, row in zip(images, probabilities, strict=True)]
    if precision is not None:
        header.append("abstained")
        table = [
            [*cells, ""] if answered else [cells[0], "", cells[2], *[""] * (len(cells) - 3), "abstain"]
            for cells, answered in zip(table, confident, strict=True)
        ]
    with atomic_write(Path(out), newline="", errors="surrogateescape") if out else nullcontext(sys.stdout) as file:
        write_csv(file, [header, *table])
    if out:
        print(f"{len(images)} images: {out}")
    if precision is not None:
        print(
            f"effnet-ft: answered {confident.sum()} of {len(images)} images, with a probability of at least "
            f"{threshold:.4f}; abstained from {(~confident).sum()}",
            file=sys.stderr,  # standard output may be the CSV
        )
    if unreadable:
        lines = [f"{path}: {reason}" for path, reason in unreadable.items()]
        print(f"effnet-ft: {len(lines)} files cannot be read and have no row\n{listing(lines)}", file=sys.stderr)
    return unreadable


def _cells(predictor: Predictor, probabilities: np.ndarray, top_k: int) -> list[str]:
    """Return an image's predictions and their probabilities, alternating."""
    best = predictor.best(probabilities, top_k)
    if predictor.model.multilabel:
        return list(join_labels(best))
    return [cell for name, probability in best for cell in (name, f"{probability:.6f}")]


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the image files that ``paths`` match, without duplicates, in the order of ``paths``.

    Raises:
        DataError: if a path or pattern matches nothing.
    """
    found: dict[str, None] = {}
    unread: list[str] = []
    for path in paths:
        if os.path.exists(path) and not os.path.isdir(path):
            files = [path]
        else:
            listed = walk_files(Path(path), []) if os.path.isdir(path) else glob.iglob(path, recursive=True)
            every = sorted(os.path.normpath(file) for file in listed if os.path.isfile(file))
            files = [file for file in every if has_image_suffix(file)]
            unread += [file for file in every if file.lower().endswith(CAMERA_SUFFIXES)]
        if not files:
            raise DataError(
                f"no image at '{path}': expected a file, a folder with images or a pattern such as 'photos/*.jpg'"
                f"{'; HEIC and raw photographs are not read: save them as JPEG' if unread else ''}"
            )
        found.update(dict.fromkeys(files))
    if unread:
        what = "HEIC or raw photographs are not read: save them as JPEG"
        print(f"effnet-ft: {len(unread)} {what}\n{listing(unread, 3)}", file=sys.stderr)
    return list(found)
