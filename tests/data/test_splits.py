"""The split is stratified, repeatable and complete, and reads back as it was written."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from effnet_ft.cache import ArrayCache
from effnet_ft.data import splits
from effnet_ft.data.sources import Sample, Source, scan_folder
from effnet_ft.data.splits import Split, carve, make_split, read_split, without_unreadable, write_split
from effnet_ft.errors import DataError

PARTS = ("train", "val", "test")


def some(folder: str = "", **counts: int) -> list[Sample]:
    return [Sample(f"{folder}{label}/{i}.jpg", label) for label, count in counts.items() for i in range(count)]


def source_of(**splits: list[Sample]) -> Source:
    classes = {sample.label for samples in splits.values() for sample in samples}
    return Source(Path("root"), tuple(sorted(classes)), splits)


def divide(source: Source, seed: int = 0, val: float = 0.15, test: float = 0.15) -> Split:
    return make_split(source, val_fraction=val, test_fraction=test, seed=seed)


def counts(split: Split) -> dict[str, dict[str, int]]:
    return {part: dict(Counter(sample.label for sample in split.part(part))) for part in PARTS}


def test_class_folders_are_split_three_ways_each_class_in_proportion() -> None:
    split = divide(source_of(all=some(a=100, b=20, c=3)))
    assert counts(split) == {
        "train": {"a": 70, "b": 14, "c": 1},
        "val": {"a": 15, "b": 3, "c": 1},
        "test": {"a": 15, "b": 3, "c": 1},
    }
    assert split.classes == ("a", "b", "c")
    assert split.held_out == "test"


def test_the_fractions_are_of_all_images_and_not_mixed_up() -> None:
    assert counts(divide(source_of(all=some(a=100)), val=0.2, test=0.5)) == {
        "train": {"a": 30},
        "val": {"a": 20},
        "test": {"a": 50},
    }


@pytest.mark.parametrize("val", [0.01, 0.15, 0.5, 0.99])
@pytest.mark.parametrize("test", [0.01, 0.15, 0.5, 0.99])
def test_parts_are_disjoint_and_complete_and_hold_every_class(val: float, test: float) -> None:
    samples = some(a=3, b=4, c=7, d=50)
    split = divide(source_of(all=samples), val=val, test=test)
    assert Counter(sample for part in PARTS for sample in split.part(part)) == Counter(samples)
    assert all({sample.label for sample in split.part(part)} == set("abcd") for part in PARTS)


@pytest.mark.parametrize(("folder", "carved"), [("all", PARTS), ("train", ("train", "val"))])
def test_the_seed_alone_decides(folder: str, carved: tuple[str, ...]) -> None:
    source = source_of(**{folder: some(a=30, b=30)})
    assert divide(source, seed=1) == divide(source, seed=1)
    for part in carved:
        assert divide(source, seed=1).part(part) != divide(source, seed=2).part(part)


def test_images_are_taken_at_random_and_keep_their_order() -> None:
    samples = some(a=1000)
    left, taken = carve(samples, 0.2, (0,), kept=1)
    numbers = [samples.index(sample) for sample in taken]
    assert numbers == sorted(numbers) and left == [sample for sample in samples if sample not in set(taken)]
    assert np.std(numbers) == pytest.approx(1000 / 12**0.5, rel=0.2), "spread over the class, not a run of it"


def test_validation_is_carved_out_of_train_beside_a_test_folder() -> None:
    test = some("test/", a=5)
    split = divide(source_of(train=some("train/", a=20, b=40), test=test))
    assert counts(split) == {"train": {"a": 17, "b": 34}, "val": {"a": 3, "b": 6}, "test": {"a": 5}}
    assert split.test == test
    assert split.held_out == "test"


@pytest.mark.parametrize("given", [("train", "val"), ("train", "val", "test")], ids="+".join)
def test_given_parts_stay_as_they_are(given: tuple[str, ...]) -> None:
    source = source_of(**{part: some(f"{part}/", a=1, b=2) for part in given})
    split = divide(source)
    assert {part: split.part(part) for part in PARTS} == {part: source.splits.get(part, []) for part in PARTS}
    assert split.held_out == given[-1]


@pytest.mark.parametrize(("folder", "least"), [("all", 3), ("train", 2)])
def test_a_class_too_small_to_divide_is_refused(folder: str, least: int) -> None:
    enough = divide(source_of(**{folder: some(a=9, b=least)}))
    assert [part["b"] for part in counts(enough).values() if "b" in part] == [1] * least
    with pytest.raises(
        DataError, match=rf"1 classes have fewer than {least} images.*: add images.*\n  b: {least - 1}$"
    ):
        divide(source_of(**{folder: some(a=9, b=least - 1)}))


def test_labels_are_the_places_of_the_classes() -> None:
    split = Split(Path(), ("b", "a"), some(a=1, b=2), [], [])
    labels = split.labels(split.train)
    assert labels.dtype == np.int64 and labels.tolist() == [1, 0, 0]
    assert split.labels([]).dtype == np.int64


HOSTILE = (
    *("a,b.jpg", 'say "x".jpg', "two\nlines.jpg", "dos\r\nlines.jpg", "日本 café.jpg", "=1+1.jpg"),
    *(" blank .jpg", "'", "tab\t.jpg", "line\u2028break.jpg", "latin1-\udce9.jpg", "\ufeffmark.jpg"),
)


def test_a_split_reads_back_as_it_was_written(tmp_path: Path) -> None:
    samples = [Sample(name, label) for name in HOSTILE for label in HOSTILE]
    split = Split(tmp_path, HOSTILE, samples[:20], samples[20:25], samples[25:])
    write_split(split, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", tmp_path, HOSTILE) == split


def test_a_split_without_a_test_part_reads_back(tmp_path: Path) -> None:
    split = Split(tmp_path, ("a",), some(a=2), some("val/", a=1), [])
    write_split(split, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", tmp_path, ["a"]) == split


HEADER = b"path,label,split\r\n"
GOOD = HEADER + b"1.jpg,a,train\r\n2.jpg,a,val\r\n"
DAMAGED = {
    "empty": b"",
    "header-alone": HEADER,
    "no-header": GOOD.removeprefix(HEADER),
    "cut-off": GOOD + b"3.jpg,a",
    "cut-off-word": GOOD + b"3.jpg,a,te",
    "unknown-part": GOOD + b"3.jpg,a,spare\r\n",
    "unknown-class": GOOD + b"3.jpg,yeti,train\r\n",
    "open-quote": GOOD + b'"3.jpg,a,train\r\n4.jpg,a,train\r\n',
    "binary": bytes(range(256)),
    "huge-field": GOOD + b"x" * 200_000,
    "no-validation": HEADER + b"1.jpg,a,train\r\n",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_split_is_named(damage: str, tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_bytes(DAMAGED[damage])
    with pytest.raises(DataError, match=r"cannot read the split .*split\.csv .*: the run folder is incomplete"):
        read_split(tmp_path / "split.csv", tmp_path, ["a"])


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the split .*split\.csv"):
        read_split(tmp_path / "split.csv", tmp_path, ["a"])


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_readable_images_pass_the_check(on_bad: str, image_folder: Callable[..., Path]) -> None:
    source = scan_folder(image_folder(a=2, b=1))
    assert without_unreadable(source, on_bad) == (source, {})


def test_unreadable_images_are_listed_or_left_out(image_folder: Callable[..., Path]) -> None:
    root = image_folder(**{"train/a": 2, "train/b": 2, "val/a": 2})
    for path in ("train/b/0.jpg", "val/a/1.jpg"):
        (root / path).write_bytes(b"broken")
    source = scan_folder(root)
    with pytest.raises(DataError, match=r"2 files .*bad_images=skip\n  train/b/0\.jpg: not an .*\n  val/a/1\.jpg: not"):
        without_unreadable(source, "error")
    kept, reasons = without_unreadable(source, "skip")
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
        without_unreadable(scan_folder(root), "skip")


def test_files_that_could_be_read_are_not_read_again_until_one_changes(
    image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = image_folder(a=3, b=3), ArrayCache(tmp_path / "cache")
    source, read = scan_folder(root), splits.unreadable
    reads: list[int] = []
    monkeypatch.setattr(splits, "unreadable", lambda root, paths: reads.append(len(paths)) or read(root, paths))
    for _ in range(2):
        assert without_unreadable(source, "error", cache) == (source, {})
    assert reads == [6]
    (root / "a" / "1.jpg").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(DataError, match=r"a/1\.jpg"):
            without_unreadable(source, "error", cache)
    assert reads == [6, 6, 6], "faults are not remembered"
    cache.clear()
    assert list(cache.folder.iterdir()) == []
