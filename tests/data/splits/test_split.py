"""The split is stratified, repeatable and complete."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from effnet_ft.data.sources.source import Sample, Source
from effnet_ft.data.splits.split import Split, make_split
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
    with pytest.raises(DataError, match=rf"1 class with fewer than {least} images.*: add images.*\n  b: {least - 1}$"):
        divide(source_of(**{folder: some(a=9, b=least - 1)}))


def test_labels_are_the_places_of_the_classes() -> None:
    split = Split(Path(), ("b", "a"), some(a=1, b=2), [], [])
    labels = split.labels(split.train)
    assert labels.dtype == np.int64 and labels.tolist() == [1, 0, 0]
    assert split.labels([]).dtype == np.int64


def test_validation_images_are_not_trained_on_where_they_measure(tmp_path: Path) -> None:
    samples = {part: [Sample(f"{part}/{name}", name) for name in "ab"] for part in ("train", "val")}
    with pytest.raises(DataError, match=r"data\.fit is 'trainval', but .* has no test images"):
        make_split(Source(tmp_path, ("a", "b"), samples), val_fraction=0.1, test_fraction=0.1, seed=0, fit="trainval")
