"""Augmentation of training images, by name; to add one, write a line in ``AUGMENTATIONS``.

albumentations and torchvision are imported inside the functions, as recipes are checked against the table without them.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from threading import Lock, get_ident
from typing import Any

import numpy as np

from effnet_ft.preprocessing import Preprocessing

SMALLEST_CROP = 0.25  # default of the smallest share of an image's area that a random crop has

SHORT_SIDE = SMALLEST_CROP**-0.5
"""Short side of a training image over the input's: a crop of a quarter is then as large as the input."""

Transform = Callable[[np.ndarray, int], np.ndarray]
"""Maps an image, uint8 ``[height, width, 3]``, and a seed to uint8 ``[size, size, 3]``."""

_TORCH_GENERATOR_LOCK = Lock()


class Augmentation:
    """albumentations ``crop``, a torchvision ``policy`` and albumentations ``last``; random by the given seed alone."""

    def __init__(self, crop: list[Any], policy: Any = None, last: Sequence[Any] = ()) -> None:
        self._transforms = [crop, list(last)]
        self._policy = policy
        self._composed: dict[int, list[Any]] = {}  # by thread, as seeding and drawing are two calls

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Return the view of ``image`` for ``seed``."""
        import torch

        composed = self._composed.get(get_ident())
        if composed is None:
            from albumentations import Compose

            composed = [Compose(transforms) for transforms in deepcopy(self._transforms)]
            self._composed[get_ident()] = composed
        for number, compose in enumerate(composed):
            if number == 1 and self._policy is not None:
                # Policies draw from torch's global generator.
                with _TORCH_GENERATOR_LOCK, torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(seed)
                    changed = self._policy(torch.from_numpy(image.copy()).permute(2, 0, 1)).permute(1, 2, 0).numpy()
                image = np.ascontiguousarray(changed)
            if compose.transforms:
                compose.set_random_seed(seed + number)
                image = compose(image=image)["image"]
        return image


def _preprocess(preprocessing: Preprocessing, image: np.ndarray, seed: int) -> np.ndarray:
    return preprocessing(image)


def _strong(preprocessing: Preprocessing) -> tuple[list[Any], None]:
    """Return two of eight colour and geometry changes, and random erasing with a probability of 0.25.

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
    return [A.SomeOf(changes, n=2, p=1.0), A.Erasing(scale=(0.02, 0.2), ratio=(0.3, 3.3), fill=fill, p=0.25)], None


def _policy(name: str, preprocessing: Preprocessing) -> tuple[list[Any], Any]:
    from torchvision.transforms import v2

    return [], getattr(v2, name)(fill=list(preprocessing.mean), interpolation=v2.InterpolationMode.BILINEAR)


# What follows the random resized crop and flip: albumentations, and a policy of torchvision. "none" has not even these.
AUGMENTATIONS: dict[str, Callable[[Preprocessing], tuple[list[Any], Any]]] = {
    "none": lambda preprocessing: ([], None),
    "basic": lambda preprocessing: ([], None),
    "strong": _strong,
    "randaugment": partial(_policy, "RandAugment"),  # Cubuk et al. 2020, arXiv:1909.13719; magnitude 9 of 30
    "autoaugment": partial(_policy, "AutoAugment"),  # Cubuk et al. 2019, arXiv:1805.09501; ImageNet's policies
    "trivialaugment": partial(_policy, "TrivialAugmentWide"),  # Müller and Hutter 2021, arXiv:2103.10158
}


def augmentation(
    name: str,
    preprocessing: Preprocessing,
    *,
    erasing: float = 0.0,
    cutout: float = 0.0,
    smallest_crop: float = SMALLEST_CROP,
) -> Transform:
    """Return the augmentation of training images, whose short side is at most ``SHORT_SIDE`` times the input's.

    Args:
        name: in :data:`AUGMENTATIONS`; ``none`` is the evaluation's resize and central crop, whatever the settings.
        preprocessing: of the model.
        erasing: probability of replacing 2 to 33% of the image by noise (Zhong et al. 2020, arXiv:1708.04896).
        cutout: side of a square to blank, as a share of the input's; 0 for none (DeVries and Taylor 2017,
            arXiv:1708.04552).
        smallest_crop: smallest share of an image's area that a random crop has.
    """
    if name == "none":
        return partial(_preprocess, preprocessing)
    import albumentations as A
    import cv2

    size, fill = (preprocessing.size, preprocessing.size), tuple(preprocessing.mean)
    # Linear interpolation does not alias down to half the size, and takes a quarter of the time of area averages.
    crop = A.RandomResizedCrop(size, scale=(smallest_crop, 1.0), interpolation=cv2.INTER_LINEAR, p=1.0)
    changes, policy = AUGMENTATIONS[name](preprocessing)
    last: list[Any] = []
    if erasing:
        last.append(A.Erasing(scale=(0.02, 1 / 3), ratio=(0.3, 3.3), fill="random", p=erasing))
    if cutout:
        last.append(A.CoarseDropout((1, 1), (cutout, cutout), (cutout, cutout), fill=fill, p=1.0))
    return Augmentation([crop, A.HorizontalFlip(p=0.5), *changes], policy, last)
