"""A fixed number of views of every image, so that a frozen prefix's activations of them can be stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from effnet_ft.data.images.decoding import downscale
from effnet_ft.data.images.transforms import SHORT_SIDE, SMALLEST_CROP, Transform, augmentation
from effnet_ft.preprocessing import Preprocessing


@dataclass
class Views:
    """The views of an image: as evaluated, its mirror image, then augmented ones."""

    preprocessing: Preprocessing
    augment: str  # see `augmentation`, also for the last three; with "none" there is one view
    count: int  # number of views
    seed: Sequence[int]  # of the augmented views, together with the image's index
    erasing: float = 0.0
    cutout: float = 0.0
    smallest_crop: float = SMALLEST_CROP

    def __post_init__(self) -> None:
        self.count = 1 if self.augment == "none" else self.count
        self.rates = {"erasing": self.erasing, "cutout": self.cutout, "smallest_crop": self.smallest_crop}

    @cached_property
    def _augmented(self) -> Transform:
        # Built on first use: albumentations takes a second to import, and stored views do not need it.
        return augmentation(self.augment, self.preprocessing, **self.rates)

    def __len__(self) -> int:
        return self.count

    def view(self, image: np.ndarray, index: int, number: int) -> np.ndarray:
        """Return view ``number`` of the image with ``index``, uint8 ``[size, size, 3]``."""
        if number < 2:
            plain = self.preprocessing(image)
            return plain if number == 0 else np.ascontiguousarray(plain[:, ::-1])
        draw = np.random.SeedSequence([*self.seed, number, index]).generate_state(1)[0]
        return self._augmented(downscale(image, int(SHORT_SIDE * self.preprocessing.size)), int(draw))

    def identity(self, number: int) -> dict[str, Any]:
        """Return everything but the image that the pixels of view ``number`` depend on."""
        drawn = {"augment": self.augment, "seed": self.seed, **self.rates, "versions": _versions()}
        plain = {"preprocessing": replace(self.preprocessing, ratio=None).to_dict(), "view": number}
        return plain if number < 2 else {**plain, **drawn}

    def turn(self, epoch: int | np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return the number of the view of each image in ``epoch`` (one for all, or one for each).

        Views rotate from epoch to epoch; each image starts at another one.
        """
        mixed = (indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
        return (mixed.astype(np.int64) + epoch) % self.count


@cache
def _versions() -> list[str]:
    return [version(package) for package in ("albumentations", "opencv-python-headless", "torchvision")]
