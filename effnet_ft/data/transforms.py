"""Augmentation of training images, by name. A new one is a function here and a line in ``AUGMENTATIONS``.

Images stay uint8 throughout. albumentations is imported inside the functions, so that a recipe is checked against the
table without it.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from threading import get_ident
from typing import Any

import numpy as np

from effnet_ft.preprocessing import Preprocessing

SMALLEST_CROP = 0.25
"""Share of an image's area that a random crop has at least."""

SHORT_SIDE = SMALLEST_CROP**-0.5
"""Of a training image, in sides of the network's input: the smallest crop is then as large as the input."""

Transform = Callable[[np.ndarray, int], np.ndarray]
"""Maps an image, uint8 ``[height, width, 3]``, and a seed to uint8 ``[size, size, 3]``."""


class Augmentation:
    """A list of albumentations transforms whose draw depends on the given seed alone.

    Args:
        transforms: the first brings the image to ``[size, size, 3]``.
    """

    def __init__(self, transforms: list[Any]) -> None:
        self._transforms = transforms
        self._of_thread: dict[int, Any] = {}  # seed and draw are two calls: no other thread may come between them

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Return the view of ``image`` that ``seed`` stands for."""
        compose = self._of_thread.get(get_ident())
        if compose is None:
            from albumentations import Compose

            compose = self._of_thread.setdefault(get_ident(), Compose(deepcopy(self._transforms)))
        compose.set_random_seed(seed)
        augmented: np.ndarray = compose(image=image)["image"]
        return augmented


class _Unchanging:
    """A view that no seed changes; a class, for processes that are handed it by pickling."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        return self.preprocessing(image)


def none(preprocessing: Preprocessing) -> Transform:
    """Return the evaluation's resize and central crop, the same for every seed."""
    return _Unchanging(preprocessing)


def basic(preprocessing: Preprocessing) -> Transform:
    """Return a random resized crop of at least a quarter of the image, and a mirror image half of the time.

    Meant for images whose short side is at most ``SHORT_SIDE`` times the input: larger ones are to be reduced before.
    """
    return Augmentation(_crop_and_flip(preprocessing.size))


def strong(preprocessing: Preprocessing) -> Transform:
    """Return ``basic``, then two of eight colour and geometry changes, then a rectangle erased a quarter of the time.

    After RandAugment (Cubuk et al. 2020, arXiv:1909.13719) and random erasing (Zhong et al. 2020, arXiv:1708.04896).
    """
    import albumentations as A
    import cv2

    fill = tuple(preprocessing.mean)
    border = {"fill": fill, "border_mode": cv2.BORDER_CONSTANT, "interpolation": cv2.INTER_LINEAR, "p": 1.0}
    changes = [
        A.ColorJitter(brightness=(0.6, 1.4), contrast=(1, 1), saturation=(1, 1), hue=(0, 0), p=1.0),
        A.ColorJitter(brightness=(1, 1), contrast=(0.6, 1.4), saturation=(0.4, 1.6), hue=(-0.03, 0.03), p=1.0),
        A.Posterize(num_bits=(4, 7), p=1.0),
        A.Equalize(p=1.0),
        A.Sharpen(alpha=(0.1, 0.5), p=1.0),
        A.GaussianBlur(blur_limit=(3, 7), p=1.0),
        A.Affine(rotate=(-30, 30), translate_percent=(-0.2, 0.2), **border),
        A.Affine(shear=(-17, 17), scale=(0.8, 1.2), **border),
    ]
    erase = A.Erasing(scale=(0.02, 0.2), ratio=(0.3, 3.3), fill=fill, p=0.25)
    return Augmentation([*_crop_and_flip(preprocessing.size), A.SomeOf(changes, n=2, p=1.0), erase])


AUGMENTATIONS: dict[str, Callable[[Preprocessing], Transform]] = {
    "none": none,
    "basic": basic,
    "strong": strong,
}


def _crop_and_flip(size: int) -> list[Any]:
    import albumentations as A
    import cv2

    # Linear interpolation does not alias up to a reduction by two, and takes a quarter of the time of area averages.
    crop = A.RandomResizedCrop((size, size), scale=(SMALLEST_CROP, 1.0), interpolation=cv2.INTER_LINEAR, p=1.0)
    return [crop, A.HorizontalFlip(p=0.5)]
