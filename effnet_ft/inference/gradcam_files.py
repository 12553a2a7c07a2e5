"""``effnet-ft explain``: writes Grad-CAM overlays of images found by path, folder or pattern."""

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from effnet_ft.data.images.unreadable import find_unreadable
from effnet_ft.errors import MachineError
from effnet_ft.inference.files import find_images
from effnet_ft.inference.load import load
from effnet_ft.utils.tables import write_csv
from effnet_ft.utils.text import listing

_CHUNK = 32  # images explained and written at once


def explain_files(model: str, paths: Sequence[str], name: str | None, out: Path) -> dict[str, str]:
    """Write an overlay of every image found, and print a CSV row for each.

    Files are never overwritten: a number is appended to a name that exists.

    Args:
        model: a run folder or a checkpoint.
        paths: files, folders (searched to any depth) and glob patterns.
        name: the class to explain; None means each image's most likely one.
        out: the folder to write to.

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
    if unreadable:
        lines = [f"{path}: {reason}" for path, reason in unreadable.items()]
        print(f"effnet-ft: {len(lines)} files cannot be read and have no overlay\n{listing(lines)}", file=sys.stderr)
    return unreadable


def _write_png(image: Image.Image, folder: Path, stem: str) -> Path:
    """Write ``image`` under the first free name and return its path."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
            try:
                with path.open("xb") as file:
                    image.save(file, "PNG")
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise MachineError(f"cannot write overlays to '{folder}': {error}") from error
