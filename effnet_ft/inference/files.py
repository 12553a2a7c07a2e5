"""``effnet-ft predict``: images found by path, folder or pattern, answers as CSV."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from effnet_ft.data.images.decoding import find_unreadable, has_image_suffix
from effnet_ft.errors import DataError
from effnet_ft.inference.predictions import join_labels
from effnet_ft.inference.predictor import Predictor, load
from effnet_ft.inference.selective_prediction import threshold_for
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.tables import write_csv
from effnet_ft.utils.text import listing


def predict_files(
    model: str, paths: Sequence[str], top_k: int, out: str | None = None, precision: float | None = None
) -> dict[str, str]:
    """Write the likeliest classes of every image found, a row an image, best first.

    Of a model of labels, the labels that hold stand in one cell, joined by ``|``, and so do their probabilities. With
    ``precision`` a last column says ``abstain`` of images that are not sure enough; they have no prediction, only the
    probability that it would have had.

    Args:
        model: a run folder or a checkpoint.
        paths: files, folders (searched to any depth) and glob patterns.
        top_k: classes to name for each image.
        out: the CSV file; None prints.
        precision: the share of answers that should be right; None answers every image.

    Returns:
        The reasons of files that could not be read, by path; they are told on standard error and have no row.

    Raises:
        DataError: where a path finds no image, or the model cannot vouch for ``precision``.
        WeightsError: where the model cannot be read.
    """
    found = find_images(paths)
    predictor = load(model)
    surest = 0.0 if precision is None else threshold_for(predictor.model.record, precision)
    bad = find_unreadable(Path(), found)
    images = [path for path in found if path not in bad]
    rows = predictor.probabilities(images)
    sure = rows.max(1) >= surest
    count = 1 if predictor.model.multilabel else min(top_k, len(predictor.classes))
    header = ["path", "prediction", "probability"]
    header += [f"{name}_{rank}" for rank in range(2, count + 1) for name in ("prediction", "probability")]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a name that is not UTF-8 is printed as it lies on disk
    with atomic_write(Path(out), newline="", errors="surrogateescape") if out else nullcontext(sys.stdout) as file:
        table = [[path, *_cells(predictor, row, top_k)] for path, row in zip(images, rows, strict=True)]
        if precision is not None:
            header.append("abstained")
            table = [
                [*cells, ""] if answered else [cells[0], "", cells[2], *[""] * (len(cells) - 3), "abstain"]
                for cells, answered in zip(table, sure, strict=True)
            ]
        write_csv(file, [header, *table])
    if out:
        print(f"{len(images)} images: {out}")
    if precision is not None:
        print(
            f"effnet-ft: answered {sure.sum()} of {len(images)} images, those whose probability reaches {surest:.4f}; "
            f"abstained from {(~sure).sum()}",
            file=sys.stderr,  # the standard output may be the CSV
        )
    if bad:
        lines = [f"{path}: {reason}" for path, reason in bad.items()]
        print(f"effnet-ft: {len(bad)} files cannot be read and have no row\n{listing(lines)}", file=sys.stderr)
    return bad


def _cells(predictor: Predictor, probabilities: np.ndarray, top_k: int) -> list[str]:
    """Return an image's answers and their probabilities, in turn."""
    best = predictor.best(probabilities, top_k)
    if predictor.model.multilabel:
        return list(join_labels(best))
    return [cell for name, probability in best for cell in (name, f"{probability:.6f}")]


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the image files that ``paths`` stand for, each once, in the order of ``paths``.

    Raises:
        DataError: where a path or pattern finds nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        if os.path.exists(path) and not os.path.isdir(path):
            files = [path]
        else:
            below = map(str, Path(path).rglob("*")) if os.path.isdir(path) else glob.iglob(path, recursive=True)
            files = sorted(file for file in below if has_image_suffix(file) and os.path.isfile(file))
        if not files:
            raise DataError(
                f"no image at '{path}': expected a file, a folder with images or a pattern such as 'photos/*.jpg'"
            )
        found.update(dict.fromkeys(files))
    return list(found)
