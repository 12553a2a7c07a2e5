"""Opens the images that a recipe names: the one place that knows every layout."""

from pathlib import Path

from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.sources.imagenet import read_imagenet, scan_imagenet
from effnet_ft.data.sources.manifest import image_folder, read_manifest
from effnet_ft.data.sources.published import read_published
from effnet_ft.data.sources.published.table import PUBLISHED
from effnet_ft.data.sources.source import Source
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.recipe.schema import DataSettings

HASHED = ("imagenet", *PUBLISHED)
"""Sources that are not decoded to find unreadable files: their files are checked by hash, or too many."""


def open_images(data: DataSettings, *, for_training: bool = True) -> Source:
    """List the images; ``for_training`` requires a training part, which ``imagenet`` otherwise does not list.

    Raises:
        DataError: if images or lists are missing or damaged.
    """
    root = data.given_root
    if data.source in PUBLISHED:
        return read_published(data.source, root, download=data.download == "on")
    if data.source == "imagenet":
        read = read_imagenet if for_training else scan_imagenet
        return read(root, imagenet_classes(), data.ground_truth)
    if data.source == "manifest":
        return read_manifest(root, data.images, for_training=for_training)
    return scan_folder(root, for_training=for_training)


def images_folder(data: DataSettings) -> Path:
    """Return the folder that the images' paths are relative to."""
    return image_root(data.source, data.given_root, data.images)


def image_root(source: str, root: str, images: str | None = None) -> Path:
    """Return the folder that the paths of a source are relative to; ``images`` replaces a manifest's own."""
    return image_folder(root, images) if source == "manifest" else Path(root).expanduser()
