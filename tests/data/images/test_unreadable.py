"""Files that cannot be read are refused or left out, and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from effnet_ft.data.images import unreadable
from effnet_ft.data.images.unreadable import drop_unreadable
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.errors import DataError
from effnet_ft.utils.array_cache import ArrayCache


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_readable_images_pass_the_check(on_bad: str, image_folder: Callable[..., Path]) -> None:
    source = scan_folder(image_folder(a=2, b=1))
    assert drop_unreadable(source, on_bad) == (source, {})


def test_unreadable_images_are_listed_or_left_out(image_folder: Callable[..., Path]) -> None:
    root = image_folder(**{"train/a": 2, "train/b": 2, "val/a": 2})
    for path in ("train/b/0.jpg", "val/a/1.jpg"):
        (root / path).write_bytes(b"broken")
    source = scan_folder(root)
    with pytest.raises(DataError, match=r"2 files .*bad_images=skip\n  train/b/0\.jpg: not an .*\n  val/a/1\.jpg: not"):
        drop_unreadable(source, "error")
    kept, reasons = drop_unreadable(source, "skip")
    assert list(reasons) == ["train/b/0.jpg", "val/a/1.jpg"]
    assert {split: [sample.path for sample in samples] for split, samples in kept.splits.items()} == {
        "train": ["train/a/0.jpg", "train/a/1.jpg", "train/b/1.jpg"],
        "val": ["val/a/0.jpg"],
    }
    assert kept.classes == source.classes


def test_a_class_emptied_by_skipping_is_named(image_folder: Callable[..., Path]) -> None:
    root = image_folder(**{"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1})
    (root / "val/b/0.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"classes in val can be read\n  b$"):
        drop_unreadable(scan_folder(root), "skip")


def test_files_that_could_be_read_are_not_read_again_until_one_changes(
    image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = image_folder(a=3, b=3), ArrayCache(tmp_path / "cache")
    source, read = scan_folder(root), unreadable.find_unreadable
    reads: list[int] = []
    monkeypatch.setattr(
        unreadable, "find_unreadable", lambda root, paths: reads.append(len(paths)) or read(root, paths)
    )
    for _ in range(2):
        assert drop_unreadable(source, "error", cache) == (source, {})
    assert reads == [6]
    (root / "a" / "1.jpg").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(DataError, match=r"a/1\.jpg"):
            drop_unreadable(source, "error", cache)
    assert reads == [6, 6, 6], "faults are not remembered"
    cache.clear()
    assert list(cache.folder.iterdir()) == []
