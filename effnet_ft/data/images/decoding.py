"""Reads image files of every common kind as uint8 RGB, and tells which files cannot be read."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from effnet_ft.errors import DataError
from effnet_ft.utils.array_cache import ArrayCache, array_key, file_stats
from effnet_ft.utils.machine_resources import usable_cores
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.shared_context import SharedContext

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
"""Endings of the files that are taken for images, in lower case."""

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
"""Larger images are refused before they are decoded: a small file can claim a size that fills the memory.

Where Pillow refuses them too, unless its own limit was lifted before.
"""

ORIENTATION = 0x0112
"""EXIF's tag for how the camera was held, 1 upright."""


@dataclass(frozen=True)
class ArchiveMember:
    """An image file inside an uncompressed tar archive, read where it lies.

    Attributes:
        archive: the tar file.
        name: of the member.
        offset: where its content begins, bytes.
        size: of its content, bytes.
    """

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"

    def open(self) -> BytesIO:
        """Return the content, read into memory."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return BytesIO(file.read(self.size))


def has_image_suffix(name: str) -> bool:
    """Return whether a file of this name is taken for an image; hidden ones are not."""
    path = Path(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(path: str | os.PathLike[str] | ArchiveMember) -> np.ndarray:
    """Read an image file: JPEG, PNG, WebP, BMP, TIFF or GIF (the first frame or page).

    Rotated as its EXIF orientation says; grey, palette and CMYK become RGB; 16-bit values are scaled from their full
    range; transparency is laid on white.

    Returns:
        uint8 ``[height, width, 3]``, RGB.

    Raises:
        DataError: where the file cannot be read; the message names it and the reason.
    """
    return _read(path, to_rgb)


def read_downscaled(path: str | os.PathLike[str] | ArchiveMember, short: int) -> np.ndarray:
    """Read an image as :func:`read_image` does, its short side reduced to ``short`` pixels where it is longer.

    A JPEG much larger than that is decoded at a half, a quarter or an eighth of its size, several times as fast.

    Returns:
        uint8 ``[height, width, 3]``, RGB.

    Raises:
        DataError: where the file cannot be read; the message names it and the reason.
    """

    def converted(image: Image.Image) -> np.ndarray:
        shape = downscaled_shape(image, short)
        image.draft(None, (min(shape), min(shape)))  # it keeps both sides at least so long
        return _at_shape(to_rgb(image), shape)

    return _read(path, converted)


def downscale(pixels: np.ndarray, short: int) -> np.ndarray:
    """Return ``pixels``, uint8 ``[height, width, 3]``, with a short side of at most ``short``, by area averages."""
    height, width = pixels.shape[:2]
    return _at_shape(pixels, downscaled_size(height, width, short))


def downscaled_shape(image: Image.Image, short: int) -> tuple[int, int]:
    """Return height and width of what :func:`read_downscaled` makes of an opened file, from its header.

    Raises:
        DataError: for more than ``MAX_PIXELS`` pixels.
    """
    _check_size(image)
    try:
        if image.format == "TIFF":
            image.load()  # its size and orientation are told otherwise before
        turned = 5 <= image.getexif().get(ORIENTATION, 1) <= 8  # these lie on their side
    except Exception:  # struct.error, SyntaxError and others: such EXIF turns nothing
        turned = False
    width, height = image.size
    return downscaled_size(width, height, short) if turned else downscaled_size(height, width, short)


def downscaled_size(height: int, width: int, short: int) -> tuple[int, int]:
    """Return height and width of an image whose short side is reduced to ``short`` pixels where it is longer."""
    scale = min(1.0, short / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _at_shape(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    import cv2

    height, width = shape
    if pixels.shape[:2] == shape:
        return pixels
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Return a Pillow image of any mode as uint8 ``[height, width, 3]``, as :func:`read_image` does.

    Raises:
        DataError: for more than ``MAX_PIXELS`` pixels.
    """
    _check_size(image)
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(np.asarray(image))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def find_unreadable(root: Path, paths: Sequence[str], threads: int | None = None) -> dict[str, str]:
    """Decode every file once, at the smallest scale its format allows, and return the reasons of those that fail.

    Args:
        root: the folder that ``paths`` are relative to.
        paths: the files.
        threads: how many to read at once; None takes the number of cores.

    Returns:
        Reason by path, in the order of ``paths``.
    """
    with silence_pillow(), ThreadPoolExecutor(threads or usable_cores()) as pool:
        reasons = pool.map(lambda path: _fault(root / path), paths)
        shown = progress_bar("checking images", reasons, total=len(paths))
        return {path: reason for path, reason in zip(paths, shown, strict=True) if reason}


def image_sides(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return height and width of the images whose headers can be read, pixels, before any EXIF rotation."""
    sides = []
    for path in paths:
        with silence_pillow(), suppress(Exception), Image.open(path) as image:  # as in read_image, of many kinds
            sides.append((image.height, image.width))
    return sides


def content_digest(paths: Sequence[Path], cache: ArrayCache) -> str:
    """Return a digest of the content of all files, in order.

    Args:
        paths: the files.
        cache: remembers it: files are not read again until one changes in size or time.
    """
    key = array_key(digest=file_stats(paths))
    if not (digest := cache.stored_text(key)):
        with ThreadPoolExecutor() as pool:
            contents = pool.map(lambda path: hashlib.sha256(path.read_bytes()).digest(), paths)
            digest = hashlib.sha256(b"".join(contents)).hexdigest()
        cache.store_text(key, digest)
    return digest


@SharedContext
@contextmanager
def silence_pillow() -> Iterator[None]:
    """Silence Pillow's warnings of broken EXIF, odd palettes and large sizes: what it still decodes is good enough.

    Warnings belong to the whole process: for the threads that read images, or those that start the readers.
    """
    with warnings.catch_warnings():
        ignore_pillow_warnings()
        yield


def ignore_pillow_warnings() -> None:
    """Do as :func:`silence_pillow` to the end of the process: for processes that do nothing but read."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _read(path: str | os.PathLike[str] | ArchiveMember, converted: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    try:
        with Image.open(path.open() if isinstance(path, ArchiveMember) else path) as image:
            return converted(image)
    except Exception as error:  # Pillow's plugins raise many kinds, struct.error and SyntaxError among them
        raise DataError(f"cannot read the image {path}: {decode_error(error)}") from error


def _fault(path: Path) -> str:
    """Return why ``path`` cannot be read, an empty text where it can."""
    try:
        with Image.open(path) as image:
            _check_size(image)
            image.draft("L", (1, 1))  # a JPEG is then decoded at an eighth: every byte is read, few pixels are made
            to_rgb(image)
    except Exception as error:
        return decode_error(error)
    return ""


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: make it smaller first")


def _upright(image: Image.Image) -> Image.Image:
    """Return ``image`` rotated as its EXIF orientation says; as it is stored where its EXIF cannot be read."""
    image.load()  # apart, so that faults of the pixels are not passed over with those of the EXIF
    with suppress(Exception):  # struct.error, SyntaxError and others
        if image.getexif().get(ORIENTATION, 1) != 1:  # otherwise Pillow would copy the image
            return ImageOps.exif_transpose(image)
    return image


def _from_deep_grey(values: np.ndarray) -> np.ndarray:
    """Return grey values deeper than 8 bits as uint8 RGB: integers from 0..65535, floats from 0..1 or 0..255."""
    scaled = values.astype(np.float32)
    if np.issubdtype(values.dtype, np.integer):
        scaled /= 257
    elif scaled.size and np.nanmax(scaled) <= 1:
        scaled *= 255
    grey = np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def decode_error(error: Exception) -> str:
    """Return why an image cannot be read, in words, from what Pillow raised."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image, or of a kind that is not supported"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels: make it smaller first"
    return str(error) or type(error).__name__
