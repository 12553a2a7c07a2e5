"""A fixed number of views of every image, so that what a frozen network makes of them can be kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from effnet_ft.data.images.decoding import downscale
from effnet_ft.data.images.transforms import SHORT_SIDE, SMALLEST_CROP, Transform, augmentation
from effnet_ft.preprocessing import Preprocessing


class Views:
    """The views of an image: as it is evaluated, its mirror image, then augmented ones.

    Args:
        preprocessing: of the model.
        augment: a name in :data:`effnet_ft.data.images.transforms.AUGMENTATIONS`; with ``none`` there is one view.
        count: how many.
        seed: numbers that the augmented views are drawn from, with the image's index.
        erasing: as of :func:`effnet_ft.data.images.transforms.augmentation`.
        cutout: likewise.
        smallest_crop: likewise.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        augment: str,
        count: int,
        seed: Sequence[int],
        *,
        erasing: float = 0.0,
        cutout: float = 0.0,
        smallest_crop: float = SMALLEST_CROP,
    ) -> None:
        self.preprocessing = preprocessing
        self.augment = augment
        self.count = 1 if augment == "none" else count
        self.seed = tuple(seed)
        self.rates = {"erasing": erasing, "cutout": cutout, "smallest_crop": smallest_crop}

    @cached_property
    def _augmented(self) -> Transform:
        """Built when it is needed: its library takes a second to load, and kept views need it no more."""
        return augmentation(self.augment, self.preprocessing, **self.rates)

    def __len__(self) -> int:
        return self.count

    def view(self, image: np.ndarray, index: int, number: int) -> np.ndarray:
        """Return view ``number`` of the image with ``index``: uint8 ``[size, size, 3]``."""
        if number < 2:
            plain = self.preprocessing(image)
            return plain if number == 0 else np.ascontiguousarray(plain[:, ::-1])
        draw = np.random.SeedSequence([*self.seed, number, index]).generate_state(1)[0]
        return self._augmented(downscale(image, int(SHORT_SIDE * self.preprocessing.size)), int(draw))

    def identity(self, number: int) -> dict[str, Any]:
        """Return all that the pixels of view ``number`` depend on, but for the images."""
        drawn = {"augment": self.augment, "seed": self.seed, **self.rates} if number >= 2 else {}
        return {"preprocessing": self.preprocessing.to_dict(), "view": number, **drawn}

    def turn(self, epoch: int | np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return the view that each image shows in ``epoch``, one for all or one for each: they take turns.

        Each image begins at a view of its own.
        """
        mixed = (indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
        return (mixed.astype(np.int64) + epoch) % self.count
