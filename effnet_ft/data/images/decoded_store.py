"""Decoded images kept between epochs, on disk between runs too: each file is decoded once, for every reading process.

Training images are kept as augmentation takes them, reduced where they are larger than it needs; evaluation views
exactly as the network sees them.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effnet_ft.data.images.decoding import content_digest, downscaled_shape, read_downscaled, read_image, silence_pillow
from effnet_ft.data.images.transforms import SHORT_SIDE
from effnet_ft.data.sources.source import Sample
from effnet_ft.distributed.collectives import rank, run_on_all_ranks
from effnet_ft.distributed.shared_arrays import ArraySpec, open_or_fill
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.utils.array_cache import ArrayCache, array_key
from effnet_ft.utils.progress import progress_bar

VERSION = 3
"""Of the arrays' meaning: another number makes every key new."""


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

    def __getstate__(self) -> dict[str, Any]:
        """Name the file in the place of the pixels that are mapped from it.

        Where reading processes are not forked, as on macOS, each is handed the images by pickling: it maps them too.
        """
        file = self.pixels.filename if isinstance(self.pixels, np.memmap) else None
        return {**vars(self), "pixels": self.pixels if file is None else Path(file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`__getstate__` gave."""
        vars(self).update(state)
        if isinstance(state["pixels"], Path):
            self.pixels = np.load(state["pixels"], mmap_mode="r").reshape(-1)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return an image, uint8 ``[height, width, 3]``, not to be written to."""
        height, width = self.shapes[index]
        end = int(self.ends[index])
        return self.pixels[end - height * width * 3 : end].reshape(height, width, 3)


def decoded_for_training(
    root: Path, samples: Sequence[Sample], size: int, cache: ArrayCache | None, limit: int
) -> DecodedImages | None:
    """Return the decoded images of ``samples``; None where they would take more than ``limit`` bytes.

    Args:
        root: the folder that the samples' paths are relative to.
        samples: the images.
        size: side of the network's input, pixels.
        cache: where they are kept; None keeps them in memory that reading processes started later share.
        limit: bytes.

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
    ends = np.cumsum(shapes.prod(1) * 3)

    def place(array: np.ndarray, index: int) -> None:
        image = read_downscaled(root / samples[index].path, short)
        array[ends[index] - image.size : ends[index]] = image.ravel()

    about = f"{root.name}, {len(samples)} images decoded, short side {short} px"
    pixels = _kept(root, samples, {"short": short}, (total,), about, place, cache, limit)
    return DecodedImages(pixels, shapes)


def decoded_for_evaluation(
    root: Path, samples: Sequence[Sample], view: Preprocessing, cache: ArrayCache | None, limit: int
) -> DecodedImages | None:
    """Return ``samples`` as the network is evaluated on them; None where they would take more than ``limit`` bytes.

    Args and errors are those of :func:`decoded_for_training`, with the view in the size's place.

    Raises:
        DataError: where an image cannot be read.
        OSError: where the disk is full.
    """
    shape = (len(samples), view.size, view.size, 3)
    if int(np.prod(shape)) > limit:
        return None

    def place(array: np.ndarray, index: int) -> None:
        array[index] = view(read_image(root / samples[index].path))

    about = f"{root.name}, {len(samples)} images as evaluated, {view.size} px"
    pixels = _kept(root, samples, view.to_dict(), shape, about, place, cache, limit)
    return DecodedImages(pixels.reshape(-1), np.full((len(samples), 2), view.size, np.int64))


def _kept(
    root: Path,
    samples: Sequence[Sample],
    how: dict[str, object],
    shape: tuple[int, ...],
    about: str,
    place: Callable[[np.ndarray, int], None],
    cache: ArrayCache | None,
    limit: int,
) -> np.ndarray:
    """Return the array of all images; where it is not kept yet, ``place`` puts each image into it."""

    def fill(array: np.ndarray, share: range) -> None:
        with silence_pillow(), ThreadPoolExecutor() as pool:
            placed = pool.map(lambda index: place(array, index), share)
            list(progress_bar("decoding", placed, total=len(share), shown=rank() == 0))

    if cache is None:

        def filled() -> np.ndarray:
            own = np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)
            fill(own, range(len(samples)))
            return own

        return run_on_all_ranks(filled)

    def spec() -> dict[str, ArraySpec]:
        images = content_digest([root / sample.path for sample in samples], cache)
        return {"pixels": ArraySpec(array_key(version=VERSION, images=images, **how), shape, "uint8", about)}

    found, _ = open_or_fill(cache, spec, lambda arrays, group: fill(arrays["pixels"], group.share(len(samples))), limit)
    return found["pixels"]


def _kept_shape(path: Path, short: int) -> tuple[int, int]:
    """Return height and width of a kept image from its header."""
    try:
        with Image.open(path) as image:
            return downscaled_shape(image, short)
    except Exception:  # Pillow's plugins raise many kinds; reading it whole gives the message
        height, width = read_downscaled(path, short).shape[:2]
        return height, width
