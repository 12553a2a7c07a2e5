"""An image as people have it: a path, a member of an archive, an array or a Pillow image."""

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
_CONTENT = (bytes, bytearray, memoryview, io.IOBase)
"""What can be gone through, and yields no images."""


def as_image_list(images: Iterable[ImageLike] | ImageLike) -> list[ImageLike]:
    """Return ``images`` as a list; a single one makes a list of one, and so does what :func:`as_rgb` is to refuse."""
    one = hasattr(images, "__array__") and getattr(images, "ndim", 0) in (0, 2, 3)  # else a table's column, a stack
    if isinstance(images, (*_SINGLE, *_CONTENT)) or one or not isinstance(images, Iterable):
        return [images]  # type: ignore[list-item]
    return list(images)


def as_rgb(image: ImageLike) -> np.ndarray:
    """Return a path's, an array's or a Pillow image's pixels as uint8 ``[H, W, 3]``, RGB.

    Raises:
        DataError: where the file cannot be read, or what a Pillow image was opened from is cut short.
        ValueError: for an array that is not uint8 ``[H, W, 3]`` or ``[H, W]``, or has no pixels.
    """
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except Exception as error:  # a Pillow image is decoded when it is first used, which fails in many ways
            raise DataError(f"cannot read a Pillow image: {decode_error(error)}") from error
    if isinstance(image, np.ndarray):
        fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if image.dtype != np.uint8 or not fits or not image.size:
            raise ValueError(f"an array image must be uint8 [H, W, 3] RGB or [H, W], got {image.dtype} {image.shape}")
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    if isinstance(image, str | os.PathLike | ArchiveMember):
        return read_image(image)
    raise DataError(
        f"cannot read a {type(image).__name__} as an image: give a path, an array or a Pillow image; of a file's "
        "content, PIL.Image.open(io.BytesIO(content))"
    )
