"""Kept decoded images: the pixels are the files', whichever way they come."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effnet_ft.data.datamodule import ImageDataModule
from effnet_ft.data.images import decoded_store
from effnet_ft.data.images.decoded_store import decoded_for_evaluation, decoded_for_training
from effnet_ft.data.images.decoding import read_image
from effnet_ft.data.sources.source import Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.distributed import collectives
from effnet_ft.errors import DataError
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.utils.array_cache import ArrayCache

PLENTY = 10**9
SIZES = {"small.png": (40, 30), "wide.png": (400, 100), "tall.jpg": (90, 300), "square.png": (200, 200)}


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[Path, list[Sample]]:
    random = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / name)
    return tmp_path, [Sample(name, "a") for name in SIZES]


@pytest.fixture
def cache(tmp_path: Path) -> ArrayCache:
    return ArrayCache(tmp_path / "cache")


def test_small_images_are_kept_as_they_are_and_large_ones_shrunk(
    photographs: tuple[Path, list[Sample]], cache: ArrayCache
) -> None:
    root, samples = photographs
    kept = decoded_for_training(root, samples, 64, cache, PLENTY)
    assert kept is not None and len(kept) == len(samples)
    for index, sample in enumerate(samples):
        image, original = kept[index], read_image(root / sample.path)
        short = min(original.shape[:2])
        if short <= 128:
            assert np.array_equal(image, original)
        else:
            scale = 128 / short
            assert image.shape == (round(original.shape[0] * scale), round(original.shape[1] * scale), 3)
            assert abs(image.mean() - original.mean()) < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_photographs(tmp_path: Path, cache: ArrayCache, orientation: int) -> None:
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    kept = decoded_for_training(tmp_path, [Sample("a.jpg", "a")], 64, cache, PLENTY)
    assert kept is not None and np.array_equal(kept[0], read_image(tmp_path / "a.jpg"))


def test_evaluation_views_are_exact(photographs: tuple[Path, list[Sample]], cache: ArrayCache) -> None:
    root, samples = photographs
    view = Preprocessing(48, 56)
    kept = decoded_for_evaluation(root, samples, view, cache, PLENTY)
    assert kept is not None
    for index, sample in enumerate(samples):
        assert np.array_equal(kept[index], view(read_image(root / sample.path)))


def test_in_memory_they_are_the_same_and_nothing_is_written(
    photographs: tuple[Path, list[Sample]], cache: ArrayCache
) -> None:
    root, samples = photographs
    for kept, held in (
        (decoded_for_training(root, samples, 64, place, PLENTY) for place in (cache, None)),
        (decoded_for_evaluation(root, samples, Preprocessing(48, 56), place, PLENTY) for place in (cache, None)),
    ):
        assert kept is not None and held is not None
        assert np.array_equal(kept.shapes, held.shapes) and np.array_equal(kept.pixels, held.pixels)
    assert len(cache.entries()) == 2
    assert decoded_for_training(root, samples, 64, None, 1000) is None


def test_a_process_that_is_not_forked_maps_the_file(photographs: tuple[Path, list[Sample]], cache: ArrayCache) -> None:
    root, samples = photographs
    mapped = (
        decoded_for_training(root, samples, 64, cache, PLENTY),
        decoded_for_evaluation(root, samples, Preprocessing(48, 56), cache, PLENTY),
    )
    held = decoded_for_training(root, samples, 64, None, PLENTY)
    for kept in (*mapped, held):
        assert kept is not None
        handed = pickle.dumps(kept)
        assert kept is held or len(handed) < kept.pixels.nbytes / 10, "the pixels travel to each process"
        read = pickle.loads(handed)
        assert all(np.array_equal(read[index], kept[index]) for index in range(len(samples)))


@pytest.mark.parametrize("how", ["training", "evaluation"])
def test_the_second_time_nothing_is_decoded(
    photographs: tuple[Path, list[Sample]], cache: ArrayCache, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    root, samples = photographs

    def get() -> np.ndarray:
        if how == "training":
            kept = decoded_for_training(root, samples, 64, cache, PLENTY)
        else:
            kept = decoded_for_evaluation(root, samples, Preprocessing(48, 56), cache, PLENTY)
        assert kept is not None
        return np.array(kept.pixels)

    first = get()

    def fail(*_: object) -> None:
        raise AssertionError("an image was decoded again")

    with monkeypatch.context() as patched:
        patched.setattr(decoded_store, "read_image", fail)
        assert np.array_equal(get(), first)
    Image.new("RGB", SIZES["small.png"], "red").save(root / "small.png")
    assert not np.array_equal(get(), first), "a changed file goes unnoticed"


def test_what_does_not_fit_is_not_kept(photographs: tuple[Path, list[Sample]], cache: ArrayCache) -> None:
    root, samples = photographs
    assert decoded_for_training(root, samples, 64, cache, 1000) is None
    assert decoded_for_evaluation(root, samples, Preprocessing(48, 56), cache, 1000) is None
    assert cache.entries() == []


def test_other_arrays_make_room(photographs: tuple[Path, list[Sample]], cache: ArrayCache) -> None:
    root, samples = photographs
    with cache.create("old", (1000,), np.uint8, "an older array") as array:
        array[:] = 1
    need = 3 * 48 * 48 * len(samples)
    assert decoded_for_evaluation(root, samples, Preprocessing(48, 56), cache, need + 500) is not None
    assert cache.open("old") is None and len(cache.entries()) == 1


def test_a_broken_file_is_named_and_nothing_is_kept(photographs: tuple[Path, list[Sample]], cache: ArrayCache) -> None:
    root, samples = photographs
    content = (root / "wide.png").read_bytes()
    (root / "wide.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"wide\.png"):
        decoded_for_training(root, samples, 64, cache, PLENTY)
    assert cache.entries() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_files(image_folder: Callable[..., Path], cache: ArrayCache, workers: int) -> None:
    root = image_folder(a=5, b=5)
    samples = [Sample(f"{name}/{number}.jpg", name) for name in "ab" for number in range(5)]
    split, view = Split(root, ("a", "b"), samples, samples[:4], []), Preprocessing(32, 36)
    kept = (
        decoded_for_training(root, samples, 32, cache, PLENTY),
        decoded_for_evaluation(root, samples[:4], view, cache, PLENTY),
    )
    plain, fast = (
        ImageDataModule(split, view, batch_size=4, workers=workers, decoded=pair) for pair in ((None, None), kept)
    )
    for loader in ("train_dataloader", "val_dataloader"):
        for (x, labels), (y, others) in zip(getattr(plain, loader)(), getattr(fast, loader)(), strict=True):
            assert x.equal(y) and labels.equal(others)


@pytest.mark.parametrize("kept", [True, False])
def test_what_fails_in_another_process_fails_in_this_one(
    kept: bool, photographs: tuple[Path, list[Sample]], cache: ArrayCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would go on with decoded images, and that one with files, at different calls."""
    root, samples = photographs
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(collectives, "all_gather", lambda value: [value, full])
    with pytest.raises(OSError, match="No space left"):
        decoded_for_training(root, samples, 64, cache if kept else None, PLENTY)
