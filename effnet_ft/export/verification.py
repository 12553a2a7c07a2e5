"""Whether an exported file answers as the original does: on the run's own images, where they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from effnet_ft.data.images.image_like import ImageLike
from effnet_ft.data.sources.opening import image_root
from effnet_ft.data.sources.source import Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.data.splits.split_file import read_split, require_images
from effnet_ft.errors import RecipeError
from effnet_ft.inference.predictor import Predictor, load
from effnet_ft.models.classifier import Classifier
from effnet_ft.recipe import load_recipe
from effnet_ft.runs.run_folder import Run

CHECKED = 32
"""Images that an export is checked on, at most."""

_DRAWN = 8
_MOVED = ("data.root=", "data.images=")


@dataclass(frozen=True)
class CheckImages:
    """Images to check an export on, and what they are in words."""

    images: Sequence[ImageLike]
    words: str


def run_split(run: Run, classes: Sequence[str], overrides: Sequence[str] = ()) -> Split:
    """Return the images that a run trained and was measured on.

    Args:
        run: the run.
        classes: of its model.
        overrides: ``data.root=...`` and ``data.images=...``, where they lie elsewhere now.

    Raises:
        DataError: where they are not there.
        RecipeError: for other overrides.
    """
    if strange := [text for text in overrides if not text.startswith(_MOVED)]:
        raise RecipeError(
            f"an export takes the run as it is; only data.root and data.images can be set: {' '.join(strange)}"
        )
    recipe = load_recipe(run.recipe, overrides, require=["data.root"])
    split = read_split(run.split, image_root(recipe.data.source, recipe.data.root, recipe.data.images), classes)
    require_images(split)
    return split


def held_out_images(split: Split) -> CheckImages:
    """Return some of the images that the run was measured on, spread over all."""
    part = split.held_out
    chosen = evenly_spaced(split.part(part), CHECKED)
    return CheckImages([split.image(sample) for sample in chosen], f"{len(chosen)} images of the {part} part")


def random_images() -> CheckImages:
    """Return pictures of coloured clouds, for where no image is at hand."""
    random = np.random.default_rng(0)
    clouds = [Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)) for _ in range(_DRAWN)]
    return CheckImages(
        [cloud.resize((320, 240), Image.Resampling.BICUBIC) for cloud in clouds], f"{_DRAWN} drawn images"
    )


def largest_difference(model: Classifier, file: Path, pictures: CheckImages) -> float:
    """Return the largest difference of a probability between a model and its exported file; NaN where one is none."""
    original, exported = Predictor(model, "cpu"), load(file, "cpu")
    differences = original.probabilities(pictures.images) - exported.probabilities(pictures.images)
    return float(np.abs(differences).max())


def evenly_spaced(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Return at most ``most`` of ``samples``, at even distances."""
    places = np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(int)
    return [samples[place] for place in places]
