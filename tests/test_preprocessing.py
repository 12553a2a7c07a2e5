"""The evaluation view against torchvision's, on images of every shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from effnet_ft.models.weights import WEIGHTS
from effnet_ft.preprocessing import _FILTERS, Preprocessing

RECORDS = pytest.mark.parametrize("known", [record.preprocessing for record in WEIGHTS.values()], ids=WEIGHTS)


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise, uint8 ``[height, width, 3]``.

    None is near black or white, where it matters whether Pillow resizes across or down first: it clips in between.
    """
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(60, 196, (8, 8, 3), np.uint8)).resize((width, height))
    return (np.asarray(coarse, int) + random.integers(-15, 16, (height, width, 3))).astype(np.uint8)


@pytest.mark.parametrize("interpolation", _FILTERS)
@pytest.mark.parametrize("size", [(97, 131), (131, 97), (333, 500), (64, 65), (31, 17), (40, 200), (83, 83), (203, 71)])
@pytest.mark.parametrize("record", [(64, 73), (65, 72), (64, 64), (60, 93)])
def test_equals_torchvision(record: tuple[int, int], size: tuple[int, int], interpolation: str) -> None:
    side, resize = record
    image = photograph(*size)
    filters = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
    reference = Compose([Resize(resize, filters[interpolation], antialias=True), CenterCrop(side)])
    expected = np.asarray(reference(Image.fromarray(image)), int)
    ours = Preprocessing(size=side, resize=resize, interpolation=interpolation)(image)
    assert ours.dtype == np.uint8 and ours.shape == (side, side, 3)
    assert np.abs(ours - expected).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5000, 20), (20, 5000), (2, 3)])
def test_tiny_and_elongated_images(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    image[size[0] // 2, size[1] // 2] = 199
    view = Preprocessing(size=224, resize=256)(image)
    assert view.shape == (224, 224, 3)
    assert abs(view.astype(int) - 200).max() <= 1


@RECORDS
@pytest.mark.parametrize("size", [32, 65, 224, 601])
def test_another_size_keeps_the_cropped_share(known: Preprocessing, size: int) -> None:
    other = known.at_size(size)
    assert other.size == size
    assert other.resize == pytest.approx(size * known.resize / known.size, abs=0.5)
    assert (other.interpolation, other.mean, other.std) == (known.interpolation, known.mean, known.std)
    assert known.at_size(known.size) == known


@RECORDS
def test_dict_round_trip(known: Preprocessing) -> None:
    plain = known.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert Preprocessing.from_dict(plain) == known
