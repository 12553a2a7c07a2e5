"""Every augmentation gives a view of the right size from any image, and the seed alone decides which."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from effnet_ft.data.images.transforms import AUGMENTATIONS, Transform, augmentation
from effnet_ft.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(size=32, resize=40)
RANDOM = [name for name in AUGMENTATIONS if name != "none"]
NOISE = np.random.default_rng(0)


def noise(height: int, width: int) -> np.ndarray:
    return NOISE.integers(0, 256, (height, width, 3), np.uint8)


IMAGES = {
    "photograph": noise(90, 120),
    "grey": np.repeat(noise(50, 60)[..., :1], 3, 2),
    "black": np.zeros((40, 40, 3), np.uint8),
    "one-pixel": noise(1, 1),
    "wide": noise(7, 300),
    "tall": noise(2000, 10),
    "one-row": noise(1, 500),
    "smaller-than-crop": noise(20, 16),
    "exact": noise(32, 32),
}


@pytest.fixture(scope="module", params=AUGMENTATIONS)
def any_transform(request: pytest.FixtureRequest) -> Transform:
    return augmentation(request.param, PREPROCESSING)


@pytest.mark.parametrize("kind", IMAGES)
def test_any_image_becomes_a_square_view(any_transform: Transform, kind: str) -> None:
    image, before = IMAGES[kind], IMAGES[kind].copy()
    image.flags.writeable = False  # as read_image gives it
    for seed in range(20):
        view = any_transform(image, seed)
        assert view.shape == (32, 32, 3)
        assert view.dtype == np.uint8
    assert np.array_equal(image, before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_seed_alone_decides_the_view(name: str) -> None:
    used, fresh = (augmentation(name, PREPROCESSING) for _ in range(2))
    for seed in range(7):
        used(IMAGES["wide"], seed)
    for seed in (0, 11, 2**32 - 1):
        for generator in (random.seed, np.random.seed, torch.manual_seed):
            generator(seed % 5)
        views = [transform(IMAGES["photograph"], seed) for transform in (used, fresh, used)]
        assert all(np.array_equal(view, views[0]) for view in views)


@pytest.mark.parametrize("name", RANDOM)
def test_other_seeds_give_other_views(name: str) -> None:
    transform = augmentation(name, PREPROCESSING)
    views = {transform(IMAGES["photograph"], seed).tobytes() for seed in range(50)}
    assert len(views) == 50


@pytest.mark.parametrize("kind", IMAGES)
def test_none_is_the_evaluations_preprocessing(kind: str) -> None:
    transform = augmentation("none", PREPROCESSING)
    expected = PREPROCESSING(IMAGES[kind])
    assert all(np.array_equal(transform(IMAGES[kind], seed), expected) for seed in range(3))


@pytest.mark.parametrize("smallest", [0.08, 0.25, 0.6])
def test_basic_crops_no_less_than_it_may_and_mirrors_half_of_the_time(smallest: float) -> None:
    """On an image whose red rises to the right and green downwards, corners tell the crop and the flip."""
    rise = np.linspace(0, 255, 128).round().astype(np.uint8)
    image = np.dstack([np.tile(rise, (128, 1)), np.tile(rise[:, None], (1, 128)), np.zeros((128, 128), np.uint8)])
    transform = augmentation("basic", PREPROCESSING, smallest_crop=smallest)
    views = np.stack([transform(image, seed) for seed in range(200)]).astype(int)
    width = views[:, 16, -1, 0] - views[:, 16, 0, 0]
    height = views[:, -1, 16, 1] - views[:, 0, 16, 1]
    area = np.abs(width) * height / 255**2
    assert (height > 0).all(), "never upside down"
    assert 0.85 * smallest < area.min() < smallest + 0.1 and 0.85 < area.max() <= 1
    assert 0.4 < (width < 0).mean() < 0.6


def test_strong_changes_colours_and_erases() -> None:
    """A plain image stays plain under crop and flip; only colour changes, borders and erasing show on it."""
    plain = np.full((64, 64, 3), (200, 90, 40), np.uint8)
    basic, strong = (augmentation(name, PREPROCESSING) for name in ("basic", "strong"))
    fill = np.array(PREPROCESSING.mean).round()
    assert all((basic(plain, seed) == plain[:32, :32]).all() for seed in range(20))
    views = [strong(plain, seed) for seed in range(300)]
    assert np.mean([(view[16, 16] != plain[0, 0]).any() for view in views]) > 0.4
    # 0.46 by the two changes that leave a border, and a quarter of the rest by erasing
    assert np.mean([(np.abs(view - fill) <= 1).all(2).any() for view in views]) > 0.53


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_reading_processes_that_do_not_fork_get_it_pickled(name: str) -> None:
    transform = augmentation(name, Preprocessing(size=32, resize=40))
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    assert np.array_equal(pickle.loads(pickle.dumps(transform))(image, 3), transform(image, 3))


@pytest.mark.parametrize("name", ["basic", "strong"])
def test_threads_do_not_disturb_each_other(name: str) -> None:
    transform = augmentation(name, PREPROCESSING)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    alone = [transform(pixels, seed) for seed in range(60)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: transform(pixels, seed), range(60)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
