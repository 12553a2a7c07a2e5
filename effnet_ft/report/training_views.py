"""What the network was shown of the training images: the views of each kind of phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from effnet_ft.data.images.transforms import SHORT_SIDE, SMALLEST_CROP, augmentation
from effnet_ft.report.contents import RunContents
from effnet_ft.report.html_formats import counted, picture
from effnet_ft.report.thumbnails import as_uri

IMAGES_SHOWN = 4
VIEWS_SHOWN = 6

_USUAL = {"erasing": 0.0, "cutout": 0.0, "smallest_crop": SMALLEST_CROP}
"""What recipes of before a key have for it, and what is not worth a word."""


@dataclass
class Showing:
    """Phases whose views of an image are drawn alike.

    Attributes:
        phases: their numbers, from 0.
        kept: views of each image that are computed once and take turns; 0 where every epoch draws its own.
        size: side of the network's input, pixels.
        augment: a name in :data:`effnet_ft.data.images.transforms.AUGMENTATIONS`.
        rates: what the augmentation is told beside its name.
        mixed: ``MixUp`` and ``CutMix``, as far as they are used.
    """

    phases: list[int]
    kept: int
    size: int
    augment: str
    rates: dict[str, float]
    mixed: list[str]


def training_views(run: RunContents) -> str:
    """Some training images as the phases showed them to the network; nothing where no epoch was trained."""
    if not run.phases:
        return ""
    step = max(1, len(run.training) // IMAGES_SHOWN)
    every = {index: run.training[index] for index in range(0, len(run.training), step)[:IMAGES_SHOWN]}
    readable = {index: path for index, path in every.items() if run.pictures.thumbnail(path)}
    files = {index: file for index, path in readable.items() if (file := run.pictures.file(path))}
    if run.pictures.predictor is None or not files:
        return "<p>Left out: the run's checkpoint or its training images could not be read.</p>"
    html = ""
    for showing in showings(run.recipe):
        names = ", ".join(escape(f"{number + 1} {run.recipe.phases[number].train}") for number in showing.phases)
        html += f"<h3>Phase{'s' if len(showing.phases) > 1 else ''} {names}</h3><p>{_words(showing)}</p>"
        for views in drawn(run, showing, files):
            html += f'<div class="strip seen">{"".join(picture(as_uri(view)) for view in views)}</div>'
    return html


def showings(recipe: Any) -> list[Showing]:
    """Return how the phases of a recipe, parsed, show images; those that do it alike, together."""
    found: list[Showing] = []
    for number, phase in enumerate(recipe.phases):
        data = {**recipe.data, **phase}
        mixed = [name for name, key in (("MixUp", "mixup"), ("CutMix", "cutmix")) if data.get(key)]
        rates = {key: float(data.get(key) or usual) for key, usual in _USUAL.items()}
        frozen = recipe.store.mode == "keep" and phase.train != "all" and not mixed
        # What is kept once is kept for later phases of the same pixels too, but none needs more views than epochs.
        showing = Showing([number], int(frozen), data["image_size"], data["augment"], rates, mixed)
        same = next((other for other in found if _pixels(other) == _pixels(showing)), None)
        if same is None:
            found.append(showing)
        else:
            same.phases.append(number)
    for showing in (showing for showing in found if showing.kept):
        epochs = [recipe.phases[number].epochs for number in showing.phases]
        views = 1 if showing.augment == "none" else min(recipe.store.views, max(epochs))
        showing.kept = views if sum(epochs) > 1 else 0
    return found


def _pixels(showing: Showing) -> tuple[object, ...]:
    return bool(showing.kept), showing.size, showing.augment, showing.rates, showing.mixed


def drawn(run: RunContents, showing: Showing, files: dict[int, Path]) -> Iterator[list[np.ndarray]]:
    """Yield for each training image, by its index, the views that the first epochs showed, uint8 ``[S, S, 3]``."""
    from effnet_ft.data.datamodule import ImageDataset
    from effnet_ft.data.images.decoding import read_image
    from effnet_ft.data.images.views import Views
    from effnet_ft.data.sources.source import Sample

    assert run.pictures.predictor is not None and run.pictures.root is not None
    preprocessing, seed = run.pictures.predictor.preprocessing.at_size(showing.size), int(run.recipe.seed)
    if showing.kept:
        views = Views(preprocessing, showing.augment, showing.kept, (seed,), **showing.rates)
        for index, file in files.items():
            yield [views.view(read_image(file), index, number) for number in range(min(len(views), VIEWS_SHOWN))]
        return
    plain = showing.augment == "none"
    epochs = 1 if plain else min(VIEWS_SHOWN, sum(run.recipe.phases[number].epochs for number in showing.phases))
    dataset = ImageDataset(
        run.pictures.root,
        [Sample(path, "") for path in run.training],
        np.zeros(len(run.training)),
        augmentation(showing.augment, preprocessing, **showing.rates),
        (seed, showing.phases[0], 1),
        None if plain else int(SHORT_SIDE * preprocessing.size),
    )
    for index in files:
        yield [dataset[epoch * len(dataset) + index][0] for epoch in range(epochs)]


def _words(showing: Showing) -> str:
    """What is to be said of the views."""
    rates = [f"{key} {value:g}" for key, value in showing.rates.items() if value != _USUAL[key]]
    html = f"Augmentation {escape(', '.join([showing.augment, *rates]))}; {showing.size} px. "
    if showing.kept:
        html += f"{counted(showing.kept, 'view')} of each image, which the frozen stages computed once, take turns: "
        html += "the image, its mirror image, then augmented ones." if showing.kept > 2 else "the image"
        html += " and its mirror image." if showing.kept == 2 else "." if showing.kept == 1 else ""
    elif showing.augment == "none":
        html += "Every epoch shows the same."
    else:
        html += "Each epoch draws another view: here those of the first epochs."
    if showing.mixed:
        html += f" {' and '.join(showing.mixed)} then blend the images of a batch, which is not shown."
    return html
