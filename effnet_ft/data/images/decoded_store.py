"""Decoded images, stored between epochs, and on disk between runs.

Training images are downscaled to what augmentation needs; images for evaluation are as the network sees them.
"""

import mmap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effnet_ft.data.images.decoding import downscaled_shape, pixels_key, read_image, silence_pillow
from effnet_ft.data.images.transforms import SHORT_SIDE
from effnet_ft.data.sources.source import Sample
from effnet_ft.distributed.collectives import rank, run_on_all_ranks
from effnet_ft.distributed.shared_arrays import ArraySpec, open_or_fill
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.utils.array_cache import ArrayCache, array_key
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.text import counted

VERSION = 3  # version of the arrays, part of every key


class DecodedImages:
    """Images of different sizes in one array: concatenated ``pixels``, uint8, and ``shapes``, heights and widths."""

    def __init__(self, pixels: np.ndarray, shapes: np.ndarray) -> None:
        self.pixels = pixels
        self.shapes = shapes
        self.ends = np.cumsum(shapes.prod(1) * 3)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle memory-mapped pixels as their file, which worker processes that are not forked then map too."""
        mapped = isinstance(self.pixels, np.memmap)
        return {**vars(self), "pixels": Path(self.pixels.filename) if mapped else self.pixels}  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if isinstance(state["pixels"], Path):
            self.pixels = np.load(state["pixels"], mmap_mode="r").reshape(-1)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return an image, uint8 ``[height, width, 3]``, which must not be modified."""
        height, width = self.shapes[index]
        end = int(self.ends[index])
        return self.pixels[end - height * width * 3 : end].reshape(height, width, 3)


def decoded_for_training(
    root: Path, samples: Sequence[Sample], size: int, cache: ArrayCache | None, limit: int
) -> DecodedImages | None:
    """Return decoded ``samples``, downscaled for an input of ``size`` pixels; None if they exceed ``limit`` bytes.

    Without a ``cache`` they are in memory that worker processes started later share.

    Raises:
        DataError: if an image cannot be read.
        OSError: if the disk is full.
    """
    short = int(SHORT_SIDE * size)

    def shape(sample: Sample) -> tuple[int, ...]:
        path = root / sample.path
        try:
            with Image.open(path) as image:
                return downscaled_shape(image, short)
        except Exception:  # Pillow's plugins raise many kinds; reading it whole gives the message
            return read_image(path, short).shape[:2]

    with ThreadPoolExecutor() as pool:
        shapes = np.array(list(pool.map(shape, samples)), np.int64)
    ends = np.cumsum(shapes.prod(1) * 3)
    if ends[-1] > limit:
        return None

    def place(array: np.ndarray, index: int) -> None:
        image = read_image(root / samples[index].path, short)
        array[ends[index] - image.size : ends[index]] = image.ravel()

    about = f"{root.name}, {counted(len(samples), 'image')} decoded, short side {short} px"
    pixels = _load_or_fill(root, samples, {"short": short}, (int(ends[-1]),), about, place, cache, limit)
    return DecodedImages(pixels, shapes)


def decoded_for_evaluation(
    root: Path, samples: Sequence[Sample], view: Preprocessing, cache: ArrayCache | None, limit: int
) -> DecodedImages | None:
    """Return ``samples`` preprocessed by ``view``; otherwise as :func:`decoded_for_training`."""
    shape = (len(samples), view.size, view.size, 3)
    if int(np.prod(shape)) > limit:
        return None

    def place(array: np.ndarray, index: int) -> None:
        array[index] = view(read_image(root / samples[index].path))

    about = f"{root.name}, {counted(len(samples), 'image')} as evaluated, {view.size} px"
    pixels = _load_or_fill(root, samples, replace(view, ratio=None).to_dict(), shape, about, place, cache, limit)
    return DecodedImages(pixels.reshape(-1), np.full((len(samples), 2), view.size, np.int64))


def _load_or_fill(
    root: Path,
    samples: Sequence[Sample],
    settings: dict[str, object],
    shape: tuple[int, ...],
    about: str,
    place: Callable[[np.ndarray, int], None],
    cache: ArrayCache | None,
    limit: int,
) -> np.ndarray:
    """Return the array of all images; if it is not stored yet, ``place`` writes each image into it."""

    def fill(array: np.ndarray, share: range) -> None:
        with silence_pillow(), ThreadPoolExecutor() as pool:
            placed = pool.map(lambda index: place(array, index), share)
            list(progress_bar("decoding", placed, total=len(share), shown=rank() == 0))

    if cache is None:

        def fill_memory() -> np.ndarray:
            array = np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)
            fill(array, range(len(samples)))
            return array

        return run_on_all_ranks(fill_memory)

    def spec() -> dict[str, ArraySpec]:
        images = pixels_key([root / sample.path for sample in samples], cache)
        return {"pixels": ArraySpec(array_key(version=VERSION, images=images, **settings), shape, "uint8", about)}

    arrays, _ = open_or_fill(cache, spec, lambda new, group: fill(new["pixels"], group.share(len(samples))), limit)
    return arrays["pixels"]
