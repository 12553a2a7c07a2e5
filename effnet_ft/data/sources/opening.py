"""Opens labelled images of any layout: the one place that knows every kind of source."""

from __future__ import annotations

from pathlib import Path

from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.sources.imagenet import read_imagenet, scan_imagenet
from effnet_ft.data.sources.manifest import image_folder, read_manifest
from effnet_ft.data.sources.published import read_published
from effnet_ft.data.sources.published.table import PUBLISHED
from effnet_ft.data.sources.source import Source
from effnet_ft.imagenet_classes import imagenet_classes

HASHED = ("imagenet", *PUBLISHED)
"""Sources that are not decoded to find unreadable files: their files are checked by hash, or too many."""


def open_source(
    source: str,
    root: str,
    *,
    images: str | None = None,
    ground_truth: str | None = None,
    download: bool = True,
    for_training: bool = True,
) -> Source:
    """List labelled images.

    Args:
        source: ``folder``, ``manifest``, ``imagenet`` or a published data set.
        root: the folder of the images, or the manifest.
        images: the folder that a manifest's paths are relative to; None means the manifest's own.
        ground_truth: ImageNet's list of validation classes; None looks for it.
        download: fetch files of a published data set that are missing.
        for_training: require a training part; without, ``imagenet`` takes the validation images alone.

    Raises:
        DataError: if images or lists are missing or damaged.
    """
    if source in PUBLISHED:
        return read_published(source, root, download=download)
    if source == "imagenet":
        read = read_imagenet if for_training else scan_imagenet
        return read(root, imagenet_classes(), ground_truth)
    if source == "manifest":
        return read_manifest(root, images, for_training=for_training)
    return scan_folder(root, for_training=for_training)


def image_root(source: str, root: str, images: str | None = None) -> Path:
    """Return the folder that the paths of a source are relative to; arguments as of :func:`open_source`."""
    return image_folder(root, images) if source == "manifest" else Path(root).expanduser()
