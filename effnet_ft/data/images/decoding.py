"""Decodes images of all common formats, from files, archives, arrays or Pillow, as uint8 RGB."""

import hashlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageCms, ImageOps, features

from effnet_ft.errors import DataError
from effnet_ft.utils.array_cache import ArrayCache, array_key, file_stats
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.shared_context import SharedContext

VERSION = 3  # of the pixels that are decoded, part of the keys of what is computed from them

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
"""Suffixes of image files, lower case."""

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
"""Larger images are refused before decoding, as a small file can claim a size that fills the memory: Pillow's limit."""

ORIENTATION = 0x0112  # EXIF's tag of the camera's orientation, 1 for upright


@dataclass(frozen=True)
class ArchiveMember:
    """An image file inside an uncompressed tar archive, read in place."""

    archive: Path  # the tar file
    name: str
    offset: int  # of its content, bytes
    size: int  # of its content, bytes

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"

    def open(self) -> io.BytesIO:
        """Return the content in memory."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))


ImageLike = str | os.PathLike[str] | ArchiveMember | np.ndarray | Image.Image
"""An array is uint8, ``[H, W, 3]`` RGB or ``[H, W]`` grey."""


def has_image_suffix(name: str) -> bool:
    """Return whether a file name is that of an image, hidden files excluded."""
    path = Path(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(path: str | os.PathLike[str] | ArchiveMember, short: int | None = None) -> np.ndarray:
    """Read a JPEG, PNG, WebP, BMP, TIFF or GIF file, the first frame or page.

    EXIF orientation is applied; grey, palette and CMYK become RGB, colours of an ICC profile sRGB; 16-bit values are
    scaled from their full range; transparent parts become white.

    Args:
        path: of the file.
        short: downscale to a short side of at most so many pixels; large JPEGs are then decoded at a half, a quarter or
            an eighth of their size, several times as fast.

    Returns:
        uint8 ``[height, width, 3]``, RGB.

    Raises:
        DataError: if the file cannot be read, with its name and the reason.
    """
    try:
        with Image.open(path.open() if isinstance(path, ArchiveMember) else path) as image:
            if short is None:
                return to_rgb(image)
            shape = downscaled_shape(image, short)
            image.draft(None, (min(shape), min(shape)))  # keeps both sides at least this long
            return _resize(to_rgb(image), shape)
    except Exception as error:  # Pillow's plugins raise many kinds, struct.error and SyntaxError among them
        raise DataError(f"cannot read the image {path}: {decode_error(error)}") from error


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


def as_image_list(images: Iterable[ImageLike] | ImageLike) -> list[ImageLike]:
    """Return ``images`` as a list; a single image becomes a list of one."""
    single = (str, os.PathLike, ArchiveMember, np.ndarray, Image.Image)
    refused = (bytes, bytearray, memoryview, io.IOBase)  # iterables that do not yield images; as_rgb refuses them
    one = hasattr(images, "__array__") and getattr(images, "ndim", 0) in (0, 2, 3)  # else a table's column, a stack
    if isinstance(images, (*single, *refused)) or one or not isinstance(images, Iterable):
        return [images]  # type: ignore[list-item]
    return list(images)


def downscale(pixels: np.ndarray, short: int) -> np.ndarray:
    """Downscale ``pixels``, uint8 ``[height, width, 3]``, to a short side of at most ``short``, by area averages."""
    height, width = pixels.shape[:2]
    return _resize(pixels, downscaled_size(height, width, short))


def downscaled_shape(image: Image.Image, short: int) -> tuple[int, int]:
    """Return height and width that :func:`read_image` downscales an opened file to, from its header."""
    check_size(image)
    try:
        if image.format == "TIFF":
            image.load()  # before it, size and orientation are wrong
        rotated = 5 <= image.getexif().get(ORIENTATION, 1) <= 8  # by 90 or 270 degrees
    except Exception:  # struct.error, SyntaxError and others: broken EXIF rotates nothing
        rotated = False
    width, height = image.size
    return downscaled_size(width, height, short) if rotated else downscaled_size(height, width, short)


def downscaled_size(height: int, width: int, short: int) -> tuple[int, int]:
    """Return height and width of an image downscaled to a short side of at most ``short`` pixels."""
    scale = min(1.0, short / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resize(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    import cv2

    if pixels.shape[:2] == shape:
        return pixels
    return cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_AREA)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image of any mode to uint8 ``[height, width, 3]``, as :func:`read_image` does."""
    check_size(image)
    image.load()  # outside suppress, which is for faults of EXIF, not of the pixels
    with suppress(Exception):  # struct.error, SyntaxError and others
        if image.getexif().get(ORIENTATION, 1) != 1:  # otherwise Pillow would copy the image
            image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(np.asarray(image))
    profile = image.info.get("icc_profile")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    colours = image if image.mode in ("RGB", "CMYK") else image.convert("RGB")
    if profile:
        with suppress(Exception):  # a profile that is broken, or of grey values, changes nothing
            if transform := _to_srgb(profile, colours.mode):
                colours = transform.apply(colours)
    return np.asarray(colours if colours.mode == "RGB" else colours.convert("RGB"))


@lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from an ICC profile to sRGB; None for sRGB itself."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if "srgb" in ImageCms.getProfileDescription(source).lower():
        return None
    target = ImageCms.createProfile("sRGB")
    # The transform is used by several threads, which must not share its cache.
    return ImageCms.buildTransform(source, target, mode, "RGB", flags=ImageCms.Flags.NOCACHE)


def _deep_grey_to_rgb(values: np.ndarray) -> np.ndarray:
    """Convert grey values of more than 8 bits: integers from 0..65535, floats from 0..1 or 0..255, NaN as 0.

    Raises:
        DataError: for values beyond, whose scale is not known.
    """
    scaled = np.nan_to_num(values.astype(np.float32), posinf=np.inf, neginf=-np.inf)
    low, high = float(scaled.min()), float(scaled.max())
    integer = np.issubdtype(values.dtype, np.integer)
    if not (low >= 0 and high <= (65535 if integer else 255)):
        raise DataError(f"grey values from {low:g} to {high:g}, whose scale is not known: save it with 8 or 16 bits")
    if integer and (values.dtype.itemsize == 2 or high > 255):
        scaled /= 257
    elif not integer and high <= 1:
        scaled *= 255
    return np.repeat(scaled.round().astype(np.uint8)[..., None], 3, axis=2)


def check_size(image: Image.Image) -> None:
    """Refuse an image of more than ``MAX_PIXELS`` pixels."""
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: make it smaller first")


def decode_error(error: Exception) -> str:
    """Return in words why an image cannot be read, from Pillow's error."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image, or of a kind that is not supported: save it as JPEG"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels: make it smaller first"
    return str(error) or type(error).__name__


def image_sides(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return height and width, pixels, of the images whose headers can be read, before any EXIF rotation."""
    sides = []
    for path in paths:
        with silence_pillow(), suppress(Exception), Image.open(path) as image:  # many kinds, as in read_image
            sides.append((image.height, image.width))
    return sides


def content_digests(paths: Sequence[Path], cache: ArrayCache) -> list[str]:
    """Return the SHA-256 of each file's content, remembered until one of the files changes."""
    stats = file_stats(paths)
    key = array_key(digests=stats)
    if not (digests := cache.stored_text(key)):
        unknown = {stat: path for path, stat in zip(paths, stats, strict=True) if stat not in _DIGESTS}
        with ThreadPoolExecutor() as pool:
            read = pool.map(lambda path: hashlib.sha256(path.read_bytes()).hexdigest(), unknown.values())
            _DIGESTS.update(zip(unknown, progress_bar("reading images", read, total=len(unknown)), strict=True))
        digests = "\n".join(_DIGESTS[stat] for stat in stats)
        cache.store_text(key, digests)
    return digests.split()


_DIGESTS: dict[tuple[object, ...], str] = {}  # of the files that this process has read, by their stats


def pixels_key(paths: Sequence[Path], cache: ArrayCache) -> str:
    """Return a key of the pixels of images, in order: of their content and of what decodes it."""
    decoders = [VERSION, PIL.__version__, *(str(features.version(name)) for name in ("jpg", "webp", "zlib"))]
    return array_key(contents=content_digests(paths, cache), decoders=decoders)


@SharedContext
@contextmanager
def silence_pillow() -> Iterator[None]:
    """Silence Pillow's warnings about broken EXIF, odd palettes and large sizes, in all threads of the process."""
    with warnings.catch_warnings():
        ignore_pillow_warnings()
        yield


def ignore_pillow_warnings() -> None:
    """Silence Pillow's warnings for the rest of the process, such as a worker."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
