"""``effnet-ft predict`` and ``explain``: CSV rows and Grad-CAM overlays of images found by path, folder or pattern."""

import glob
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import chain, count
from pathlib import Path

from PIL import Image

from effnet_ft.data.images.decoding import has_image_suffix
from effnet_ft.data.images.unreadable import find_unreadable
from effnet_ft.data.sources.folder import walk_files
from effnet_ft.data.sources.source import CAMERA_SUFFIXES
from effnet_ft.errors import DataError, MachineError
from effnet_ft.inference.load import load
from effnet_ft.inference.predictor import join_labels
from effnet_ft.inference.selective_prediction import confidence_threshold
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.tables import write_csv
from effnet_ft.utils.text import counted, listing

_CHUNK = 32  # images explained and written at once


def predict_files(
    model: str, paths: Sequence[str], top_k: int, out: str | None = None, precision: float | None = None
) -> dict[str, str]:
    """Write CSV to ``out`` or the terminal, one row per image with its ``top_k`` most likely classes, best first.

    In a multi-label model all predicted labels share one cell, joined by ``|``, and so do their probabilities. With
    ``precision`` a last column marks images that the model abstains from; their prediction is empty.

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
    ranks = 1 if predictor.model.multilabel else min(top_k, len(predictor.classes))
    header = ["path", "prediction", "probability"]
    header += [f"{name}_{rank}" for rank in range(2, ranks + 1) for name in ("prediction", "probability")]
    table = []
    for path, row in zip(images, probabilities, strict=True):
        best = predictor.best(row, top_k)
        cells = [join_labels(best)] if predictor.model.multilabel else [join_labels([each]) for each in best]
        table.append([path, *chain.from_iterable(cells)])
    if precision is not None:
        header.append("abstained")
        table = [
            [*cells, ""] if answered else [cells[0], "", cells[2], *[""] * (len(cells) - 3), "abstain"]
            for cells, answered in zip(table, confident, strict=True)
        ]
    with atomic_write(Path(out), newline="", errors="surrogateescape") if out else nullcontext(sys.stdout) as file:
        write_csv(file, [header, *table])
    if out:
        print(f"{counted(len(images), 'image')}: {out}")
    if precision is not None:
        print(
            f"effnet-ft: answered {confident.sum()} of {counted(len(images), 'image')}, with a probability of at least "
            f"{threshold:.4f}; abstained from {(~confident).sum()}",
            file=sys.stderr,  # standard output may be the CSV
        )
    _print_unreadable(unreadable, "row")
    return unreadable


def explain_files(model: str, paths: Sequence[str], name: str | None, out: Path) -> dict[str, str]:
    """Write to the folder ``out`` a Grad-CAM overlay of every image found, and print a CSV row for each.

    ``name`` is the class to explain; None means each image's most likely one. Files are never overwritten: a number is
    appended to a name that exists.

    Returns:
        Why files could not be read, by path; they are listed on standard error and have no overlay.

    Raises:
        DataError: if a path matches no image, or the model has no such class.
        MachineError: if the folder cannot be written to.
        WeightsError: if the model cannot be read or has no accessible layers.
    """
    found = find_images(paths)
    predictor = load(model)
    if name is not None:
        predictor.class_index(name)  # report a misspelt class before reading all files
    unreadable = find_unreadable(Path(), found)
    images = [path for path in found if path not in unreadable]
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        explanations = predictor.explain(chunk, name)
        if start == 0:  # after explain, which fails for exported programs
            write_csv(sys.stdout, [["path", "overlay", "class", "probability"]])
        for path, explanation in zip(chunk, explanations, strict=True):
            overlay = _write_png(Image.fromarray(explanation.overlay()), out, Path(path).stem)
            write_csv(sys.stdout, [[path, str(overlay), explanation.name, f"{explanation.probability:.6f}"]])
    _print_unreadable(unreadable, "overlay")
    return unreadable


def _write_png(image: Image.Image, folder: Path, stem: str) -> Path:
    """Write ``image`` under the first free name and return its path."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
            with suppress(FileExistsError), path.open("xb") as file:
                image.save(file, "PNG")
                break
    except OSError as error:
        raise MachineError(f"cannot write overlays to '{folder}': {error}") from error
    return path


def _print_unreadable(reasons: Mapping[str, str], lacks: str) -> None:
    if reasons:
        lines = [f"{path}: {reason}" for path, reason in reasons.items()]
        print(f"effnet-ft: no {lacks} for {counted(len(lines), 'unreadable file')}\n{listing(lines)}", file=sys.stderr)


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the images of files, folders (searched to any depth) and glob patterns, without duplicates, in order.

    Raises:
        DataError: if a path or pattern matches nothing.
    """
    found: dict[str, None] = {}
    unread: list[str] = []
    passed: list[str] = []
    for path in paths:
        if os.path.exists(path) and not os.path.isdir(path):
            files = [path]
        else:
            listed = walk_files(Path(path), passed) if os.path.isdir(path) else glob.iglob(path, recursive=True)
            every = sorted(str(Path(file)) for file in listed if os.path.isfile(file))
            files = [file for file in every if has_image_suffix(file)]
            unread += [file for file in every if file.lower().endswith(CAMERA_SUFFIXES)]
        photographs = f"HEIC and raw photographs are not read: save them as JPEG\n{listing(unread, 3)}"
        if not files:
            raise DataError(
                f"no image at '{path}': expected a file, a folder with images or a pattern such as 'photos/*.jpg'"
                f"{'; ' + photographs if unread else ''}"
            )
        found.update(dict.fromkeys(files))
    if unread:
        print(f"effnet-ft: {photographs}", file=sys.stderr)
    if passed:
        print(f"effnet-ft: {counted(len(passed), 'system or repeated folder')} ignored", file=sys.stderr)
    return list(found)
