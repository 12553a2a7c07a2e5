"""The views of the training images that each kind of phase showed to the network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from effnet_ft.data.images.transforms import SHORT_SIDE, SMALLEST_CROP, augmentation
from effnet_ft.recipe.plan import AugmentPlan, Plan
from effnet_ft.report.contents import RunContents
from effnet_ft.report.thumbnails import as_uri

IMAGES_SHOWN = 4
VIEWS_SHOWN = 6


class PhaseViews(NamedTuple):
    """Phases whose views of an image are the same."""

    phases: list[int]  # their indices
    stored: int  # views of each image that are computed once and used in turn; 0 where every epoch draws its own
    image_size: int  # side of the network's input, pixels
    augmentation: AugmentPlan
    mixing: tuple[str, ...]  # `MixUp` and `CutMix`, as far as they are used

    @property
    def settings(self) -> str:
        """The augmentation in words, with what differs from the defaults."""
        defaults = {"erasing": 0.0, "cutout": 0.0, "smallest_crop": SMALLEST_CROP}
        changed = [f"{key} {value:g}" for key, value in self.augmentation.rates.items() if value != defaults[key]]
        return ", ".join([self.augmentation.name, *changed])


def training_views(run: RunContents) -> dict[str, Any] | None:
    """Return each kind of phase: its settings, its phases and, for some training images, their views as data URIs.

    The list is empty if images or model cannot be read. None if no epoch was trained.
    """
    if not run.phases:
        return None
    step = max(1, len(run.training_paths) // IMAGES_SHOWN)
    indices = range(0, len(run.training_paths), step)[:IMAGES_SHOWN]
    readable = run.thumbnails.readable([run.training_paths[index] for index in indices])
    files = {index: readable[path] for index in indices if (path := run.training_paths[index]) in readable}
    if run.plan is None or run.thumbnails.predictor is None or not files:
        return {"kinds": []}
    kinds = []
    for views in phase_views(run.plan):
        names = [f"{index + 1} {run.plan.phases[index].train}" for index in views.phases]
        kinds.append((views, names, [[as_uri(view) for view in drawn] for drawn in draw_views(run, views, files)]))
    return {"kinds": kinds}


def phase_views(plan: Plan) -> list[PhaseViews]:
    """Return the views of a plan's phases; phases with the same views are one entry."""
    indices: dict[tuple[Any, ...], list[int]] = {}
    for phase in plan.phases:
        mixing = tuple(name for name in ("MixUp", "CutMix") if getattr(phase.mixing, name.lower()))
        key = (phase.source.views, phase.image_size, phase.augmentation, mixing)
        indices.setdefault(key, []).append(phase.index)
    return [PhaseViews(phases, *key) for key, phases in indices.items()]


def draw_views(run: RunContents, shown: PhaseViews, files: dict[int, Path]) -> Iterator[list[np.ndarray]]:
    """Yield the views of the first epochs, uint8 ``[S, S, 3]``, of each image in ``files``, by training index."""
    from effnet_ft.data.datamodule import ImageDataset
    from effnet_ft.data.images.decoding import read_image
    from effnet_ft.data.images.views import Views
    from effnet_ft.data.sources.source import Sample

    assert run.plan is not None and run.thumbnails.predictor is not None and run.thumbnails.root is not None
    preprocessing, seed = run.thumbnails.predictor.preprocessing.at_size(shown.image_size), run.plan.seed
    augment, strengths = shown.augmentation.name, shown.augmentation.rates
    if shown.stored:
        views = Views(preprocessing, augment, shown.stored, (seed,), **strengths)
        for index, file in files.items():
            yield [views.view(read_image(file), index, number) for number in range(min(len(views), VIEWS_SHOWN))]
        return
    plain = augment == "none"
    epochs = 1 if plain else min(VIEWS_SHOWN, sum(run.plan.phases[index].epochs for index in shown.phases))
    dataset = ImageDataset(
        run.thumbnails.root,
        [Sample(path, "") for path in run.training_paths],
        np.zeros(len(run.training_paths)),
        augmentation(augment, preprocessing, **strengths),
        (seed, shown.phases[0], 1),
        None if plain else int(SHORT_SIDE * preprocessing.size),
    )
    for index in files:
        yield [dataset[epoch * len(dataset) + index][0] for epoch in range(epochs)]
