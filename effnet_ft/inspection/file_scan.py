"""Looks at every file once: its digest, what its header says, whether it decodes, and a small picture of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from effnet_ft.data.images.decoding import ORIENTATION, decode_error, silence_pillow, to_rgb
from effnet_ft.utils.array_cache import ArrayCache, array_key, file_stats
from effnet_ft.utils.machine_resources import usable_cores
from effnet_ft.utils.progress import progress_bar

VERSION = 1
"""Of what a look holds: another number makes every key new."""

SIDE = 32
"""Of the small pictures, pixels."""

FILE_RECORD = np.dtype(
    [
        ("digest", "S64"),
        ("reason", "S200"),
        ("format", "S8"),
        ("mode", "S8"),
        ("width", "i4"),
        ("height", "i4"),
        ("frames", "i4"),
        ("turned", "?"),
        ("transparent", "?"),
        ("deep", "?"),
        ("picture", "u1", (SIDE, SIDE, 3)),
    ]
)
"""What is known of a file: SHA-256 of its content; why it cannot be read, empty where it can; then only of those that
can: Pillow's names of its format and its mode; width and height as it is stored, pixels; frames; whether its EXIF turns
it, whether it has transparency or more than 8 bits a channel; the picture, RGB, squeezed to a square."""


def scan_files(paths: Sequence[Path], cache: ArrayCache) -> np.ndarray:
    """Return what is known of each file, :data:`FILE_RECORD` ``[N]``.

    Args:
        paths: the files.
        cache: remembers it: files are not read again until one changes in size or time.
    """
    key = array_key(version=VERSION, looks=file_stats(paths))
    if (found := cache.open(key)) is not None:
        return found
    looks = np.zeros(len(paths), FILE_RECORD)
    with silence_pillow(), ThreadPoolExecutor(usable_cores()) as pool:
        for number, look in enumerate(progress_bar("looking", pool.map(_look, paths), total=len(paths))):
            looks[number] = look
    with suppress(OSError), cache.create(key, looks.shape, FILE_RECORD, f"what {len(paths)} files are like") as array:
        array[:] = looks
    return looks


def _look(path: Path) -> np.ndarray:
    """Return what is known of one file, :data:`FILE_RECORD` ``[]``."""
    look = np.zeros((), FILE_RECORD)
    try:
        content = path.read_bytes()
        look["digest"] = hashlib.sha256(content).hexdigest()
        with Image.open(BytesIO(content)) as image:
            for key, value in _header(image, content).items():
                look[key] = value
            image.draft(None, (2 * SIDE, 2 * SIDE))  # a JPEG is then decoded small: every byte is read, in less time
            look["picture"] = _squeezed(to_rgb(image))
    except Exception as error:  # Pillow's plugins raise many kinds, struct.error and SyntaxError among them
        look["reason"] = decode_error(error).encode("utf-8", "replace")[:200]
    return look


def _header(image: Image.Image, content: bytes) -> dict[str, object]:
    # A PNG of 16-bit colours is opened as one of 8 bits; its header has the depth at this place.
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16") or (image.format == "PNG" and content[24] == 16)
    facts: dict[str, object] = {
        "format": (image.format or "").encode(),
        "mode": image.mode.encode(),
        "width": image.width,
        "height": image.height,
        "transparent": "A" in image.getbands() or "transparency" in image.info,
        "deep": deep,
    }
    with suppress(Exception):  # of many kinds: what lies behind the first frame, and broken EXIF, changes no pixel
        # The further pictures that phones put behind a JPEG's first, such as a map of depths, move nothing.
        facts["frames"] = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        facts["turned"] = image.getexif().get(ORIENTATION, 1) != 1
    return facts


def _squeezed(pixels: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
