"""``effnet-ft explain``: overlays of images found by path, folder or pattern, as files of their own."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from effnet_ft.data.images.decoding import find_unreadable
from effnet_ft.errors import MachineError
from effnet_ft.inference.files import find_images
from effnet_ft.inference.predictor import load
from effnet_ft.utils.tables import write_csv
from effnet_ft.utils.text import listing

_AT_ONCE = 32
"""Images whose explanations are held at once."""


def explain_files(model: str, paths: Sequence[str], name: str | None, out: Path) -> dict[str, str]:
    """Write for every image found what the network saw with Grad-CAM over it, and print a CSV row that tells which.

    No file is ever written over: where a name is taken, a number is put behind it.

    Args:
        model: a run folder or a checkpoint.
        paths: files, folders (searched to any depth) and glob patterns.
        name: the class to explain; None takes each image's likeliest.
        out: the folder to write to; it is made.

    Returns:
        The reasons of files that could not be read, by path; they are told on standard error and have no overlay.

    Raises:
        DataError: where a path matches no image, or the model has no such class.
        MachineError: where the folder cannot be written to.
        WeightsError: where the model cannot be read.
    """
    found = find_images(paths)
    predictor = load(model)
    if name is not None:
        predictor.class_index(name)  # a misspelt class is told before all files are read
    bad = find_unreadable(Path(), found)
    images = [path for path in found if path not in bad]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a name that is not UTF-8 is printed as it lies on disk
    for start in range(0, len(images), _AT_ONCE):
        some = images[start : start + _AT_ONCE]
        explanations = predictor.explain(some, name)
        if start == 0:  # not before a model that cannot be explained has said so
            write_csv(sys.stdout, [["path", "overlay", "class", "probability"]])
        for path, explanation in zip(some, explanations, strict=True):
            overlay = _written(Image.fromarray(explanation.overlay()), out, Path(path).stem)
            write_csv(sys.stdout, [[path, str(overlay), explanation.name, f"{explanation.probability:.6f}"]])
    if bad:
        lines = [f"{path}: {reason}" for path, reason in bad.items()]
        print(f"effnet-ft: {len(bad)} files cannot be read and have no overlay\n{listing(lines)}", file=sys.stderr)
    return bad


def _written(image: Image.Image, folder: Path, stem: str) -> Path:
    """Write ``image`` as PNG under the first name that is free."""
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
