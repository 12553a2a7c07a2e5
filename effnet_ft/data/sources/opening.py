"""Opens the images that a recipe names, whatever their layout: the one place that knows all kinds of sources."""

from __future__ import annotations

from pathlib import Path

from effnet_ft.data.sources.imagenet import read_imagenet, scan_imagenet
from effnet_ft.data.sources.manifest import image_folder, read_manifest
from effnet_ft.data.sources.published import read_published
from effnet_ft.data.sources.published.table import PUBLISHED
from effnet_ft.data.sources.source import Source, scan_folder
from effnet_ft.models.creation import imagenet_classes
from effnet_ft.recipe import DataSettings

HASHED = ("imagenet", *PUBLISHED)
"""Sources whose files were checked by their hashes, or are too many to be decoded for a check."""


def open_source(settings: DataSettings, *, for_training: bool = True) -> Source:
    """Return the labelled images that ``data.source`` and ``data.root`` name.

    Args:
        settings: the recipe's section ``data``.
        for_training: a training part is needed; without, ``imagenet`` takes the validation images alone.

    Raises:
        DataError: where images or lists are missing or damaged, with what to do.
    """
    if settings.source in PUBLISHED:
        return read_published(settings.source, settings.root, download=settings.download == "on")
    if settings.source == "imagenet":
        read = read_imagenet if for_training else scan_imagenet
        return read(settings.root, imagenet_classes(), settings.ground_truth)
    if settings.source == "manifest":
        return read_manifest(settings.root, settings.images, for_training=for_training)
    return scan_folder(settings.root, for_training=for_training)


def image_root(settings: DataSettings) -> Path:
    """Return the folder that the paths of a run's split are relative to."""
    if settings.source == "manifest":
        return image_folder(settings.root, settings.images)
    return Path(settings.root).expanduser()
