"""Images in any form: a path, a member of an archive, an array or a Pillow image."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable

import numpy as np
from PIL import Image

from effnet_ft.data.images.decoding import ArchiveMember, decode_error, read_image, to_rgb
from effnet_ft.errors import DataError

ImageLike = str | os.PathLike[str] | ArchiveMember | np.ndarray | Image.Image
"""An array is uint8, ``[H, W, 3]`` RGB or ``[H, W]`` grey."""

_SINGLE = (str, os.PathLike, ArchiveMember, np.ndarray, Image.Image)
_NOT_IMAGES = (bytes, bytearray, memoryview, io.IOBase)  # iterables that do not yield images; as_rgb refuses them


def as_image_list(images: Iterable[ImageLike] | ImageLike) -> list[ImageLike]:
    """Return ``images`` as a list; a single image becomes a list of one."""
    one = hasattr(images, "__array__") and getattr(images, "ndim", 0) in (0, 2, 3)  # else a table's column, a stack
    if isinstance(images, (*_SINGLE, *_NOT_IMAGES)) or one or not isinstance(images, Iterable):
        return [images]  # type: ignore[list-item]
    return list(images)


def as_rgb(image: ImageLike) -> np.ndarray:
    """Return an image's pixels, uint8 ``[H, W, 3]``, RGB.

    Raises:
        DataError: if the image cannot be read.
        ValueError: for an array that is not uint8 ``[H, W, 3]`` or ``[H, W]``, or has no pixels.
    """
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except Exception as error:  # Pillow decodes on first use, which fails in many ways
            raise DataError(f"cannot read a Pillow image: {decode_error(error)}") from error
    if isinstance(image, np.ndarray):
        fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if image.dtype != np.uint8 or not fits or not image.size:
            raise ValueError(f"an array image must be uint8 [H, W, 3] RGB or [H, W], got {image.dtype} {image.shape}")
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    if isinstance(image, str | os.PathLike | ArchiveMember):
        return read_image(image)
    raise DataError(
        f"cannot read a {type(image).__name__} as an image: give a path, an array or a Pillow image; for the content "
        "of a file, PIL.Image.open(io.BytesIO(content))"
    )
