"""Augmentation of training images, by name. A new one is a function here and a line in ``AUGMENTATIONS``.

Images stay uint8 throughout. albumentations and torchvision are imported inside the functions, so that a recipe is
checked against the table without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from threading import Lock, get_ident
from typing import Any

import numpy as np

from effnet_ft.preprocessing import Preprocessing

SMALLEST_CROP = 0.25
"""Share of an image's area that a random crop has at least, where nothing else is asked for."""

SHORT_SIDE = SMALLEST_CROP**-0.5
"""Of a training image, in sides of the network's input: a crop of a quarter is then as large as the input."""

Transform = Callable[[np.ndarray, int], np.ndarray]
"""Maps an image, uint8 ``[height, width, 3]``, and a seed to uint8 ``[size, size, 3]``."""

_TORCH_GENERATOR = Lock()


class Augmentation:
    """Transforms whose draw depends on the given seed alone.

    Args:
        crop: albumentations that bring the image to ``[size, size, 3]``.
        policy: of torchvision, on uint8 tensors ``[3, size, size]``, after them.
        last: albumentations after that.
    """

    def __init__(self, crop: list[Any], policy: Any = None, last: Sequence[Any] = ()) -> None:
        self._lists = [crop, list(last)]
        self._policy = policy
        self._of_thread: dict[int, list[Any]] = {}  # seed and draw are two calls: no other thread may come between them

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Return the view of ``image`` that ``seed`` stands for."""
        composed = self._of_thread.get(get_ident())
        if composed is None:
            from albumentations import Compose

            composed = [Compose(transforms) for transforms in deepcopy(self._lists)]
            self._of_thread[get_ident()] = composed
        for number, compose in enumerate(composed):
            if number == 1 and self._policy is not None:
                image = _drawn(self._policy, image, seed)
            if compose.transforms:
                compose.set_random_seed(seed + number)
                image = compose(image=image)["image"]
        return image


def _drawn(policy: Any, image: np.ndarray, seed: int) -> np.ndarray:
    """Return what a torchvision policy makes of ``image``; it draws from torch's generator, of which there is one."""
    import torch

    with _TORCH_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        changed: np.ndarray = policy(torch.from_numpy(image.copy()).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(changed)


class _Unchanging:
    """A view that no seed changes; a class, for processes that are handed it by pickling."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        return self.preprocessing(image)


def none(preprocessing: Preprocessing, last: Sequence[Any] = (), smallest_crop: float = SMALLEST_CROP) -> Transform:
    """Return the evaluation's resize and central crop, the same for every seed."""
    return _Unchanging(preprocessing)


def basic(preprocessing: Preprocessing, last: Sequence[Any] = (), smallest_crop: float = SMALLEST_CROP) -> Transform:
    """Return a random resized crop, its sides in a ratio of 3/4 to 4/3, and a mirror image half of the time.

    Meant for images whose short side is at most ``SHORT_SIDE`` times the input: larger ones are to be reduced before.
    """
    return Augmentation(_crop_and_flip(preprocessing.size, smallest_crop), None, last)


def strong(preprocessing: Preprocessing, last: Sequence[Any] = (), smallest_crop: float = SMALLEST_CROP) -> Transform:
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
    crop = _crop_and_flip(preprocessing.size, smallest_crop)
    return Augmentation([*crop, A.SomeOf(changes, n=2, p=1.0), erase], None, last)


def randaugment(
    preprocessing: Preprocessing, last: Sequence[Any] = (), smallest_crop: float = SMALLEST_CROP
) -> Transform:
    """Return ``basic``, then RandAugment (Cubuk et al. 2020, arXiv:1909.13719): two operations of magnitude 9 of 30."""
    return _with_policy("RandAugment", preprocessing, last, smallest_crop)


def autoaugment(
    preprocessing: Preprocessing, last: Sequence[Any] = (), smallest_crop: float = SMALLEST_CROP
) -> Transform:
    """Return ``basic``, then AutoAugment's policies of ImageNet (Cubuk et al. 2019, arXiv:1805.09501)."""
    return _with_policy("AutoAugment", preprocessing, last, smallest_crop)


def trivialaugment(
    preprocessing: Preprocessing, last: Sequence[Any] = (), smallest_crop: float = SMALLEST_CROP
) -> Transform:
    """Return ``basic``, then TrivialAugment (Müller and Hutter 2021, arXiv:2103.10158): one operation, any strength."""
    return _with_policy("TrivialAugmentWide", preprocessing, last, smallest_crop)


AUGMENTATIONS: dict[str, Callable[..., Transform]] = {
    "none": none,
    "basic": basic,
    "strong": strong,
    "randaugment": randaugment,
    "autoaugment": autoaugment,
    "trivialaugment": trivialaugment,
}


def augmentation(
    name: str,
    preprocessing: Preprocessing,
    *,
    erasing: float = 0.0,
    cutout: float = 0.0,
    smallest_crop: float = SMALLEST_CROP,
) -> Transform:
    """Return the augmentation of training images.

    Args:
        name: in :data:`AUGMENTATIONS`; ``none`` changes nothing, whatever else is given.
        preprocessing: of the model.
        erasing: how often a rectangle of 2 to 33% of the image is replaced by noise (Zhong et al. 2020,
            arXiv:1708.04896).
        cutout: side of a square that is always blanked, as a share of the input's; 0 blanks none (DeVries and Taylor
            2017, arXiv:1708.04552).
        smallest_crop: share of an image's area that a random crop has at least.
    """
    import albumentations as A

    last: list[Any] = []
    if erasing:
        last.append(A.Erasing(scale=(0.02, 1 / 3), ratio=(0.3, 3.3), fill="random", p=erasing))
    if cutout:
        fill = tuple(preprocessing.mean)
        last.append(A.CoarseDropout((1, 1), (cutout, cutout), (cutout, cutout), fill=fill, p=1.0))
    return AUGMENTATIONS[name](preprocessing, last, smallest_crop)


def _with_policy(name: str, preprocessing: Preprocessing, last: Sequence[Any], smallest_crop: float) -> Transform:
    from torchvision.transforms import v2

    fill, linear = list(preprocessing.mean), v2.InterpolationMode.BILINEAR
    crop = _crop_and_flip(preprocessing.size, smallest_crop)
    return Augmentation(crop, getattr(v2, name)(fill=fill, interpolation=linear), last)


def _crop_and_flip(size: int, smallest: float) -> list[Any]:
    import albumentations as A
    import cv2

    # Linear interpolation does not alias up to a reduction by two, and takes a quarter of the time of area averages.
    crop = A.RandomResizedCrop((size, size), scale=(smallest, 1.0), interpolation=cv2.INTER_LINEAR, p=1.0)
    return [crop, A.HorizontalFlip(p=0.5)]
