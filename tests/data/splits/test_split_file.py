"""A split reads back as it was written; a damaged file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from effnet_ft.data.sources.source import Sample, Source
from effnet_ft.data.splits.split import Split, make_split, read_split, write_split
from effnet_ft.errors import DataError

HOSTILE = (
    *("a,b.jpg", 'say "x".jpg', "two\nlines.jpg", "dos\r\nlines.jpg", "日本 café.jpg", "=1+1.jpg"),
    *(" blank .jpg", "'", "tab\t.jpg", "line\u2028break.jpg", "latin1-\udce9.jpg", "\ufeffmark.jpg"),
)


def test_a_split_reads_back_as_it_was_written(tmp_path: Path) -> None:
    samples = [Sample(name, label) for name in HOSTILE for label in HOSTILE]
    split = Split(tmp_path, HOSTILE, samples[:20], samples[20:25], samples[25:])
    write_split(split, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", tmp_path, HOSTILE) == split


@pytest.mark.parametrize("multilabel", [False, True], ids=["classes", "labels"])
@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "grouped"])
def test_groups_and_several_labels_read_back(grouped: bool, multilabel: bool, tmp_path: Path) -> None:
    labels = ["a", "b|c", "", "a|c"] if multilabel else ["a", "b", "c", "a|c"]
    classes = ("a", "b", "c") if multilabel else ("a", "a|c", "b", "c")
    samples = [Sample(f"{number}.jpg", label, "p, 1" * grouped) for number, label in enumerate(labels)]
    split = Split(tmp_path, classes, samples[:2], samples[2:3], samples[3:], multilabel)
    write_split(split, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", tmp_path, classes) == split
    assert ("group" in (tmp_path / "split.csv").read_text().splitlines()[0]) == grouped


def test_a_split_without_a_test_part_reads_back(tmp_path: Path) -> None:
    split = Split(tmp_path, ("a",), [Sample("a/0.jpg", "a"), Sample("a/1.jpg", "a")], [Sample("val/a/0.jpg", "a")], [])
    write_split(split, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", tmp_path, ["a"]) == split


def test_an_image_in_two_parts_is_written_and_read_back(tmp_path: Path) -> None:
    samples = {
        part: [Sample(f"{part}/{number}", "ba"[number % 2]) for number in range(8)] for part in ("train", "test")
    }
    source = Source(tmp_path, ("b", "a"), samples)
    fractions = {"val_fraction": 0.25, "test_fraction": 0.15, "seed": 3}
    plain, both = (make_split(source, **fractions, fit=fit) for fit in ("train", "trainval"))
    assert (both.val, both.test) == (plain.val, plain.test)
    assert both.train == [*plain.train, *plain.val]
    assert both.labels(both.test).tolist() == [0, 1] * 4
    write_split(both, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", tmp_path, source.classes) == both


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
