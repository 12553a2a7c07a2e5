"""How an image becomes a network's input. The record belongs to a set of weights and travels with it. Free of torch."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
from PIL import Image

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

CROPS = ("timm", "openmmlab")

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """Resizing, cropping and normalisation.

    Attributes:
        size: side of the network's square input, pixels.
        resize: length that the image's short side is resized to before the central crop, pixels.
        interpolation: ``bilinear`` or ``bicubic``.
        crop: ``timm`` resizes, antialiased, and then crops, as torchvision does too. ``openmmlab`` crops the share
            ``size / resize`` of the short side and then resizes, not antialiased, as the official implementation does
            (tensorflow/tpu ``efficientnet/preprocessing.py``; mmpretrain's ``EfficientNetCenterCrop``).
        mean: subtracted from each RGB channel, on the scale 0..255.
        std: each RGB channel is divided by it, on the scale 0..255.
        ratio: of ``resize`` to ``size`` before rounding, where another size was chosen; None means that of the two.
    """

    size: int
    resize: int
    interpolation: str = "bicubic"
    crop: str = "timm"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    ratio: float | None = field(default=None, compare=False)

    def at_size(self, size: int, crop: str | None = None) -> Self:
        """Return the same preprocessing for another input size and central crop, with the same share cropped."""
        ratio = self.ratio or self.resize / self.size
        return replace(self, size=size, resize=max(size, round(size * ratio)), crop=crop or self.crop, ratio=ratio)

    def __call__(self, image: np.ndarray, down: float = 0.5, across: float = 0.5) -> np.ndarray:
        """Resize the short side and crop the centre.

        Args:
            image: uint8 ``[height, width, 3]``, RGB.
            down: where the crop lies, 0 at the top, 1 at the bottom.
            across: likewise, 0 on the left, 1 on the right.

        Returns:
            uint8 ``[size, size, 3]``. Normalisation is the model's, on its device.
        """
        place = (down, across)
        return (
            self._crop_then_resize(image, place) if self.crop == "openmmlab" else self._resize_then_crop(image, place)
        )

    def _resize_then_crop(self, image: np.ndarray, place: tuple[float, float]) -> np.ndarray:
        height, width = image.shape[:2]
        short = min(height, width)
        scaled = (
            max(self.resize, int(self.resize * width / short)),
            max(self.resize, int(self.resize * height / short)),
        )
        # The centre is rounded as torchvision's CenterCrop does.
        left, top = (round((length - self.size) * share) for length, share in zip(scaled, place[::-1], strict=True))
        # Resizing the cropped box alone gives the pixels of resize-then-crop, and stays small on a panorama.
        x, y = width / scaled[0], height / scaled[1]
        box = (left * x, top * y, (left + self.size) * x, (top + self.size) * y)
        resized = Image.fromarray(image).resize((self.size, self.size), _FILTERS[self.interpolation], box=box)
        return np.asarray(resized)

    def _crop_then_resize(self, image: np.ndarray, place: tuple[float, float]) -> np.ndarray:
        import cv2

        height, width = image.shape[:2]
        share = self.size / self.resize * min(height, width)
        top, left = (round((length - share) * at) for length, at in zip((height, width), place, strict=True))
        side = max(1, int(share))
        cropped = np.ascontiguousarray(image[top : top + side, left : left + side])
        filters = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
        return cv2.resize(cropped, (self.size, self.size), interpolation=filters[self.interpolation])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint; :meth:`from_dict` reads them back."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        if self.ratio in (None, self.resize / self.size):
            del values["ratio"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the preprocessing that :meth:`to_dict` described."""
        plain: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in values.items()}
        return cls(**plain)
