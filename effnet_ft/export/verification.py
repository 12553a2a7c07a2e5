"""Checks that an exported file predicts as the original does, if possible on the run's own images."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from effnet_ft.data.images.decoding import ImageLike
from effnet_ft.data.sources.source import Sample
from effnet_ft.data.splits.split import Split, read_split, require_images
from effnet_ft.errors import MachineError
from effnet_ft.inference.load import load
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.classifier import Classifier
from effnet_ft.recipe import load_recipe
from effnet_ft.recipe.images import images_folder
from effnet_ft.recipe.loading import require_settable
from effnet_ft.runs.run_folder import Run
from effnet_ft.utils.text import counted

MAX_CHECK_IMAGES, _RANDOM_IMAGES = 32, 8  # images that an export is checked on, of the run's own or random ones


@dataclass(frozen=True)
class CheckImages:
    """Images to check an export on, and what they are in words."""

    images: Sequence[ImageLike]
    description: str


@contextmanager
def checked_file(path: Path, write: Callable[[Path], None]) -> Iterator[Path]:
    """Write a temporary file beside ``path`` and yield it to be checked; then rename it, or remove it after an error.

    Raises a MachineError if it cannot be written.
    """
    temporary = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        with _naming_file(path):
            write(temporary)
        yield temporary
        with _naming_file(path):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming_file(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise MachineError(f"cannot write '{path}': {error}") from error


def run_split(run: Run, classes: Sequence[str], overrides: Sequence[str] = ()) -> Split:
    """Return the split of a run, whose images may have moved to ``data.root=...`` or ``data.images=...``.

    Raises:
        DataError: if images are missing.
        RecipeError: for other overrides.
    """
    require_settable(overrides, "move", "an export takes the run as it is")
    folder = images_folder(load_recipe(run.recipe, overrides, require=["data.root"]).data)
    split = read_split(run.split, folder, classes)
    require_images(split)
    return split


def held_out_images(split: Split) -> CheckImages:
    """Return some of the run's test (or validation) images, evenly spaced."""
    part = split.held_out
    chosen = evenly_spaced(split.part(part), MAX_CHECK_IMAGES)
    return CheckImages(
        [split.image(sample) for sample in chosen], f"{counted(len(chosen), 'image')} of the {part} split"
    )


def random_images() -> CheckImages:
    """Return images of coloured noise."""
    random = np.random.default_rng(0)
    noise = [Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)) for _ in range(_RANDOM_IMAGES)]
    images = [image.resize((320, 240), Image.Resampling.BICUBIC) for image in noise]
    return CheckImages(images, f"{_RANDOM_IMAGES} random images")


def largest_difference(model: Classifier, file: Path, images: CheckImages) -> float:
    """Return the largest difference of a probability between a model and its exported file; NaN if one is NaN."""
    original, exported = Predictor(model, "cpu"), load(file, "cpu")
    differences = original.probabilities(images.images) - exported.probabilities(images.images)
    return float(np.abs(differences).max())


def evenly_spaced(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return at most ``count`` of ``samples``, evenly spaced."""
    indices = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[index] for index in indices]
