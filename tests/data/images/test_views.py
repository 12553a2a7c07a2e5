"""A view is a fact of image, index and number; its identity changes exactly where its pixels do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effnet_ft.data.images.transforms import AUGMENTATIONS
from effnet_ft.data.images.views import Views
from effnet_ft.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(size=32, resize=40)
RANDOM = [name for name in AUGMENTATIONS if name != "none"]
IMAGE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


def views_of(
    preprocessing: Preprocessing = PREPROCESSING, augment: str = "basic", seed: tuple[int, ...] = (7,), **rates: float
) -> Views:
    return Views(preprocessing, augment, 5, seed, **rates)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_the_first_views_are_the_evaluated_image_and_its_mirror_image(augment: str) -> None:
    views = views_of(augment=augment)
    assert np.array_equal(views.view(IMAGE, 3, 0), PREPROCESSING(IMAGE))
    mirror = views.view(IMAGE, 3, 1)
    assert np.array_equal(mirror, PREPROCESSING(IMAGE)[:, ::-1])
    assert mirror.flags.c_contiguous


def test_without_augmentation_there_is_one_view() -> None:
    assert len(views_of(augment="none")) == 1
    assert {len(views_of(augment=augment)) for augment in RANDOM} == {5}


@pytest.mark.parametrize("augment", RANDOM)
def test_augmented_views_depend_on_seed_index_and_number_alone(augment: str) -> None:
    fresh, used = views_of(augment=augment), views_of(augment=augment)
    for number in (4, 2, 3):
        used.view(IMAGE, 11, number)
    expected = [fresh.view(IMAGE, index, number) for index in range(3) for number in range(2, 5)]
    backwards = [used.view(IMAGE, index, number) for index in (2, 1, 0) for number in (4, 3, 2)][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(expected, backwards, strict=True))
    assert all(view.shape == (32, 32, 3) and view.dtype == np.uint8 for view in expected)
    others = [views_of(augment=augment, seed=seed).view(IMAGE, 0, 2) for seed in ((8,), (7, 1))]
    assert len({view.tobytes() for view in [*expected, *others]}) == 9 + 2


CHANGES: dict[str, dict[str, Any]] = {
    "size": {"preprocessing": PREPROCESSING.at_size(48)},
    "resize": {"preprocessing": replace(PREPROCESSING, resize=44)},
    "interpolation": {"preprocessing": replace(PREPROCESSING, interpolation="bilinear")},
    "crop": {"preprocessing": replace(PREPROCESSING, crop="openmmlab")},
    "augmentation": {"augment": "strong"},
    "seed": {"seed": (8,)},
    "smallest-crop": {"smallest_crop": 0.08},
}


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("change", CHANGES)
def test_the_identity_differs_where_the_pixels_do(change: str, number: int) -> None:
    plain, other = views_of(), views_of(**CHANGES[change])
    shown = {views.view(IMAGE, index, number).tobytes() for views in (plain, other) for index in range(8)}
    alike = {views.view(IMAGE, index, number).tobytes() for views in (plain, plain) for index in range(8)}
    same_pixels, same_identity = shown == alike, plain.identity(number) == other.identity(number)
    if number < 2 or change in ("augmentation", "seed", "smallest-crop"):
        assert same_identity == same_pixels
    else:
        assert not same_identity  # of a random crop too: that it does not ask for the central one is its own affair


def test_the_identity_knows_the_number_and_the_normalisation() -> None:
    assert len({str(views_of().identity(number)) for number in range(5)}) == 5
    normalised = views_of(replace(PREPROCESSING, mean=(0.0, 0.0, 0.0)))
    assert all(normalised.identity(number) != views_of().identity(number) for number in range(5))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_image_shows_every_view_in_turn_and_not_all_the_same(count: int) -> None:
    views, indices = Views(PREPROCESSING, "basic", count, (0,)), np.arange(101)
    for start in (0, 5):
        turns = np.stack([views.turn(epoch, indices) for epoch in range(start, start + count)])
        assert np.array_equal(np.sort(turns, axis=0), np.repeat(np.arange(count)[:, None], len(indices), 1))
        shares = np.stack([np.bincount(turn, minlength=count) for turn in turns]) / len(indices)
        assert shares.min() > 0.5 / count, "an epoch shows about as much of each view"


def test_the_turn_of_an_image_does_not_depend_on_its_batch() -> None:
    views, indices = views_of(), np.arange(40)
    alone = np.concatenate([views.turn(3, indices[index : index + 1]) for index in indices])
    assert np.array_equal(alone, views.turn(3, indices))
