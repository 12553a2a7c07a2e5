"""Decoded images kept between epochs and runs: each file is decoded once, and every process reads the same memory.

Training images are kept with their short side at one and a half times the network's input, or as they are where they
are smaller: a random crop of a quarter of the area is then still near the input's size. Evaluation views are kept
exactly as the network sees them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from effnet_ft.cache import ArrayCache
from effnet_ft.data.images import pillow_silenced, read_image
from effnet_ft.data.sources import Sample
from effnet_ft.preprocessing import Preprocessing

log = logging.getLogger(__name__)

VERSION = 1
"""Of the arrays' meaning: another number makes every key new."""

SHORT_SIDE = 1.5
"""Of a kept training image, in sides of the network's input."""


class DecodedImages:
    """Images of different sizes in one array of bytes.

    Args:
        pixels: uint8, the images one behind the other.
        shapes: height and width of each, ``[N, 2]``.
    """

    def __init__(self, pixels: np.ndarray, shapes: np.ndarray) -> None:
        self.pixels = pixels
        self.shapes = shapes
        self.ends = np.cumsum(shapes.prod(1) * 3)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return an image, uint8 ``[height, width, 3]``, not to be written to."""
        height, width = self.shapes[index]
        end = int(self.ends[index])
        return self.pixels[end - height * width * 3 : end].reshape(height, width, 3)


def decoded_for_training(
    root: Path, samples: Sequence[Sample], size: int, cache: ArrayCache, limit: int
) -> DecodedImages | None:
    """Return the decoded images of ``samples``; None where they would take more than ``limit`` bytes.

    Raises:
        DataError: where an image cannot be read.
        OSError: where the disk is full.
    """
    short = int(SHORT_SIDE * size)
    with ThreadPoolExecutor() as pool:
        shapes = np.array(list(pool.map(lambda sample: _kept_shape(root / sample.path, short), samples)), np.int64)
    total = int((shapes.prod(1) * 3).sum())
    if total > limit:
        return None
    key = _key(root, samples, {"short": short})
    ends = np.cumsum(shapes.prod(1) * 3)

    def fill(array: np.ndarray) -> None:
        def place(index: int) -> None:
            image = _shrunk(read_image(root / samples[index].path), *shapes[index])
            array[ends[index] - image.size : ends[index]] = image.ravel()

        _each(place, len(samples), "decoding")

    pixels = _kept(cache, key, (total,), f"{root.name}, {len(samples)} images decoded, short side {short} px", fill)
    return DecodedImages(pixels, shapes)


def decoded_for_evaluation(
    root: Path, samples: Sequence[Sample], view: Preprocessing, cache: ArrayCache, limit: int
) -> DecodedImages | None:
    """Return ``samples`` as the network is evaluated on them; None where they would take more than ``limit`` bytes.

    Raises:
        DataError: where an image cannot be read.
        OSError: where the disk is full.
    """
    shape = (len(samples), view.size, view.size, 3)
    if int(np.prod(shape)) > limit:
        return None

    def fill(array: np.ndarray) -> None:
        def place(index: int) -> None:
            array[index] = view(read_image(root / samples[index].path))

        _each(place, len(samples), "decoding")

    key = _key(root, samples, view.to_dict())
    pixels = _kept(cache, key, shape, f"{root.name}, {len(samples)} images as evaluated, {view.size} px", fill)
    return DecodedImages(pixels.reshape(-1), np.full((len(samples), 2), view.size, np.int64))


def _kept(
    cache: ArrayCache, key: str, shape: tuple[int, ...], about: str, fill: Callable[[np.ndarray], None]
) -> np.ndarray:
    with cache.lock(key):
        found = cache.open(key)
        if found is None:
            with cache.create(key, shape, np.uint8, about) as array:
                fill(array)
            found = cache.open(key)
    assert found is not None, "an array that was just written is missing"
    return found


def _each(place: Callable[[int], None], count: int, title: str) -> None:
    with pillow_silenced(), ThreadPoolExecutor() as pool:
        list(tqdm(pool.map(place, range(count)), total=count, desc=title, unit="", leave=False, disable=None, delay=2))


def _key(root: Path, samples: Sequence[Sample], how: dict[str, object]) -> str:
    with ThreadPoolExecutor() as pool:
        paths = [root / sample.path for sample in samples]
        contents = pool.map(lambda path: hashlib.sha256(path.read_bytes()).digest(), paths)
        images = hashlib.sha256(b"".join(contents)).hexdigest()
    facts = {"version": VERSION, "images": images, **how}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _kept_shape(path: Path, short: int) -> tuple[int, int]:
    """Return height and width of a kept image from its header."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 lie on their side
    except Exception:  # Pillow's plugins raise many kinds; reading it whole gives the message
        height, width = read_image(path).shape[:2]
        turned = False
    if turned:
        height, width = width, height
    scale = min(1.0, short / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shrunk(image: np.ndarray, height: int, width: int) -> np.ndarray:
    import cv2

    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (int(width), int(height)), interpolation=cv2.INTER_AREA)
