"""An image as people have it: a path, a member of an archive, an array or a Pillow image."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from PIL import Image

from effnet_ft.data.images import ArchiveMember, read_image, to_rgb
from effnet_ft.errors import DataError

ImageLike = str | os.PathLike[str] | ArchiveMember | np.ndarray | Image.Image
"""An array is uint8, ``[H, W, 3]`` RGB or ``[H, W]`` grey."""


def as_list(images: Iterable[ImageLike] | ImageLike) -> list[ImageLike]:
    """Return ``images`` as a list; a single one makes a list of one."""
    if isinstance(images, str | os.PathLike | ArchiveMember | np.ndarray | Image.Image):
        return [images]
    return list(images)


def as_rgb(image: ImageLike) -> np.ndarray:
    """Return a path's, an array's or a Pillow image's pixels as uint8 ``[H, W, 3]``, RGB.

    Raises:
        DataError: where the file cannot be read.
        ValueError: for an array that is not uint8 ``[H, W, 3]`` or ``[H, W]``.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"an array image must be uint8 [H, W, 3] RGB or [H, W], got {image.dtype} {image.shape}")
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    if isinstance(image, str | os.PathLike | ArchiveMember):
        return read_image(image)
    raise DataError(f"cannot read a {type(image).__name__} as an image: give a path, an array or a Pillow image")
