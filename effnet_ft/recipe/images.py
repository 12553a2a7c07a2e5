"""The images that a recipe names."""

from __future__ import annotations

from pathlib import Path

from effnet_ft.data.sources.opening import image_root, open_source
from effnet_ft.data.sources.source import Source
from effnet_ft.recipe.schema import DataSettings


def open_images(data: DataSettings, *, for_training: bool = True) -> Source:
    """List the images; arguments and errors as for :func:`effnet_ft.data.sources.opening.open_source`."""
    return open_source(
        data.source,
        data.given_root,
        images=data.images,
        ground_truth=data.ground_truth,
        download=data.download == "on",
        for_training=for_training,
    )


def images_folder(data: DataSettings) -> Path:
    """Return the folder that the images' paths are relative to."""
    return image_root(data.source, data.given_root, data.images)
