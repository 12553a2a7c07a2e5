"""A manifest is read whatever wrote it, every wrong row is named; a division keeps groups whole and labels shared."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnet_ft.data.manifest import read_manifest
from effnet_ft.data.sources import Sample, Source, labels_of
from effnet_ft.data.splits import Split, carve_groups, carve_labels, make_split, read_split, write_split
from effnet_ft.errors import DataError

PARTS = ("train", "val", "test")


def manifest(folder: Path, text: str, *images: str) -> Path:
    """Write a manifest and the empty images that it lists."""
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).touch()
    folder.mkdir(exist_ok=True)
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_a_manifest_is_read_whatever_wrote_it(delimiter: str, end: str, mark: str, tmp_path: Path) -> None:
    rows = [
        ("Path ", "width", "LABEL", "Split", "group"),
        ("x/1.jpg", "5", "cat", "train", "p1"),
        ('"a, b; c.jpg"', "5", "dog", "Validation", ""),
        ("x/2.jpg", "5", "dog", "TEST", "p2"),
        ("x/3.jpg", "5", "dog", "train", "p1"),
    ]
    text = mark + end.join(delimiter.join(row) for row in rows) + end + end
    path = manifest(tmp_path, text, "x/1.jpg", "a, b; c.jpg", "x/2.jpg", "x/3.jpg")
    for root in (path, tmp_path):
        source = read_manifest(root)
        assert source.root == tmp_path and source.classes == ("cat", "dog") and not source.multilabel
        assert source.splits == {
            "train": [Sample("x/1.jpg", "cat", "p1"), Sample("x/3.jpg", "dog", "p1")],
            "val": [Sample("a, b; c.jpg", "dog")],
            "test": [Sample("x/2.jpg", "dog", "p2")],
        }


def test_several_labels_are_sorted_and_may_be_none(tmp_path: Path) -> None:
    text = "path,labels\n1.jpg,b|a\n2.jpg,\n3.jpg, c ; a ;c\n"
    source = read_manifest(manifest(tmp_path, text, "1.jpg", "2.jpg", "3.jpg"))
    assert source.multilabel and source.classes == ("a", "b", "c")
    assert [sample.label for sample in source.splits["all"]] == ["a|b", "", "a|c"]
    split = Split(tmp_path, source.classes, source.splits["all"], [], [], multilabel=True)
    labels = split.labels(split.train)
    assert labels.dtype == np.float32 and labels.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    path = manifest(tmp_path / "lists", f"path,label\n1.jpg,a\n{tmp_path}/far.jpg,b\n")
    manifest(tmp_path / "images", "", "1.jpg")
    (tmp_path / "far.jpg").touch()
    source = read_manifest(path, str(tmp_path / "images"))
    assert [source.image(sample) for sample in source.part("all")] == [
        tmp_path / "images" / "1.jpg",
        tmp_path / "far.jpg",
    ]


def test_every_wrong_row_is_named_at_once(tmp_path: Path) -> None:
    text = (
        "path,label,split\n1.jpg,a,train\ngone.jpg,a,train\n2.jpg,,train\n3.jpg,b,dev\n1.jpg,b,train\n1.jpg,a,train\n"
        ",a,train\n4.jpg,a\n4.jpg,b,\n"
    )
    with pytest.raises(DataError) as caught:
        read_manifest(manifest(tmp_path, text, *(f"{number}.jpg" for number in range(1, 5))))
    assert str(caught.value).splitlines() == [
        f"7 rows of {tmp_path / 'manifest.csv'} are wrong",
        "  row 3: there is no file 'gone.jpg'",
        "  row 4: '2.jpg' has no label",
        "  row 5: the split is 'dev', expected train, val or test",
        "  row 6: '1.jpg' again, otherwise than in row 2",
        "  row 8: the path is empty",
        "  row 9: 2 cells, the header has 3",
        "  1 rows name no split and others do, rows 10: name it in every row or in none",
    ]


MISTAKES = {
    "no-file": (None, r"there is no .*manifest\.csv: give the manifest"),
    "empty": ("", r"has no column 'path' and no column 'label'"),
    "no-label": ("path,class\n1.jpg,a\n", r"has no column 'label': .*it is: path, class"),
    "both": ("path,label,labels\n1.jpg,a,b\n", r"'label' and a column 'labels': keep one"),
    "twice": ("path,label,path\n1.jpg,a,1.jpg\n", r"column 'path' twice"),
    "no-rows": ("path,label\n", r"lists no images"),
    "one-class": ("path,label\n1.jpg,a\n2.jpg,a\n", r"one class only, 'a'"),
    "no-labels-at-all": ("path,labels\n1.jpg,\n2.jpg,\n", r"names no label in any row"),
    "no-train": ("path,label,split\n1.jpg,a,val\n2.jpg,b,test\n", r"rows of val, test, but none of train"),
    "strange": (
        "path,label,split\n1.jpg,a,train\n2.jpg,b,train\n3.jpg,c,val\n",
        r"1 classes of .* have no image in train.*\n  c$",
    ),
    "torn-group": (
        "path,label,split,group\n1.jpg,a,train,p1\n2.jpg,b,train,p2\n3.jpg,b,val,p1\n",
        r"1 groups of .* stand in more than one split: .*\n  p1: train, val$",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_cure(mistake: str, tmp_path: Path) -> None:
    text, message = MISTAKES[mistake]
    if text is not None:
        manifest(tmp_path, text, "1.jpg", "2.jpg", "3.jpg")
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "path;label\nWiese Fluß.jpg;a\n".encode("cp1252"),
            "rows of .* there is no file .*\n.* saves it as 'CSV UTF-8'",
        ),
        ("path\tlabel\n1.jpg\ta\n".encode("utf-16"), "has no column 'path' .*saves it as 'CSV UTF-8'"),
    ],
    ids=["rows", "header"],
)
def test_letters_of_another_encoding_are_told(content: bytes, told: str, tmp_path: Path) -> None:
    manifest(tmp_path, "", "Wiese Fluß.jpg", "1.jpg").write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){told}"):
        read_manifest(tmp_path)


def test_paths_as_windows_writes_them_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file 'x\\1.jpg', but 'x/1.jpg': write / for \\$"):
        read_manifest(manifest(tmp_path, "path,label\nx\\1.jpg,a\n", "x/1.jpg"))


@pytest.mark.parametrize("multilabel", [False, True], ids=["classes", "labels"])
@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "grouped"])
def test_a_split_reads_back_as_it_was_written(grouped: bool, multilabel: bool, tmp_path: Path) -> None:
    labels = ["a", "b|c", "", "a|c"] if multilabel else ["a", "b", "c", "a|c"]
    classes = ("a", "b", "c") if multilabel else ("a", "a|c", "b", "c")
    samples = [Sample(f"{number}.jpg", label, "p, 1" * grouped) for number, label in enumerate(labels)]
    split = Split(tmp_path, classes, samples[:2], samples[2:3], samples[3:], multilabel)
    write_split(split, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", tmp_path, classes) == split
    assert ("group" in (tmp_path / "split.csv").read_text().splitlines()[0]) == grouped


def source_of(samples: list[Sample], multilabel: bool = False) -> Source:
    classes = {name for sample in samples for name in labels_of(sample, multilabel)}
    return Source(Path("root"), tuple(sorted(classes)), {"all": samples}, multilabel=multilabel)


@st.composite
def grouped_samples(draw: st.DrawFn) -> list[Sample]:
    labels = draw(st.lists(st.sampled_from(["a", "b", "c", "a|b", ""]), min_size=6, max_size=60))
    groups = draw(st.lists(st.sampled_from(["", *"pqrstuvw"]), min_size=len(labels), max_size=len(labels)))
    return [Sample(f"{n}.jpg", label, group) for n, (label, group) in enumerate(zip(labels, groups, strict=True))]


@settings(deadline=None, max_examples=200)
@given(
    samples=grouped_samples(),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 9),
    kept=st.integers(1, 2),
    multilabel=st.booleans(),
)
def test_no_group_is_divided_and_no_class_lost(
    samples: list[Sample], fraction: float, seed: int, kept: int, multilabel: bool
) -> None:
    try:
        left, taken = carve_groups(samples, fraction, (seed,), kept, multilabel)
    except DataError:
        groups: dict[str, set[str]] = {}
        for sample in samples:
            groups.setdefault(sample.group or sample.path, set()).update(labels_of(sample, multilabel))
        standing = Counter(name for names in groups.values() for name in names if name)
        named = [names - {""} for names in groups.values() if names - {""}]
        stuck = all(any(standing[name] <= kept for name in names) for names in named)
        assert len(groups) <= kept or stuck, "it could have been divided"
        return
    assert taken and left and Counter([*left, *taken]) == Counter(samples)
    assert not {s.group for s in left} & {s.group for s in taken} - {""}
    names = [{n for s in part for n in labels_of(s, multilabel) if n} for part in (samples, left)]
    assert names[0] == names[1], "a class is lost to training"


def test_groups_are_divided_each_class_near_its_share() -> None:
    random = np.random.default_rng(0)
    samples = [
        Sample(f"{group}-{n}.jpg", "abc"[int(random.integers(3)) if group % 5 else 0], str(group))
        for group in range(120)
        for n in range(int(random.integers(1, 12)))
    ]
    split = make_split(source_of(samples), val_fraction=0.2, test_fraction=0.1, seed=3)
    whole = Counter(sample.label for sample in samples)
    for part, fraction in (("val", 0.2), ("test", 0.1)):
        counts = Counter(sample.label for sample in split.part(part))
        for name, count in whole.items():
            assert counts[name] == pytest.approx(fraction * count, abs=0.02 * count)
    assert split == make_split(source_of(samples), val_fraction=0.2, test_fraction=0.1, seed=3)
    assert split != make_split(source_of(samples), val_fraction=0.2, test_fraction=0.1, seed=4)


def test_too_few_groups_are_told() -> None:
    one = [Sample(f"{n}.jpg", "ab"[n % 2], "p1") for n in range(20)]
    with pytest.raises(DataError, match="of 1 groups, at least 3 are needed"):
        make_split(source_of(one), val_fraction=0.2, test_fraction=0.2, seed=0)
    own = [Sample(f"{n}.jpg", "abcd"[n % 4], "pqrs"[n % 4]) for n in range(20)]
    with pytest.raises(DataError, match="no group can be held out: each of the 4 groups holds images of a class"):
        make_split(source_of(own), val_fraction=0.2, test_fraction=0.2, seed=0)


def test_a_class_of_a_single_group_is_trained_on_and_told(caplog: pytest.LogCaptureFixture) -> None:
    samples = [Sample(f"{n}.jpg", "ab"[n % 2], f"p{n % 9}") for n in range(90)]
    samples += [Sample(f"c{n}.jpg", "c", "alone") for n in range(9)]
    with caplog.at_level(logging.WARNING):
        split = make_split(source_of(samples), val_fraction=0.2, test_fraction=0.2, seed=0)
    assert {sample.label for sample in split.train} == {"a", "b", "c"}
    told = [record.getMessage() for record in caplog.records]
    words = "have no image in the {} part, which says nothing of them"
    assert told == [f"1 classes {words.format(part)}\n  c" for part in ("val", "test")]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), fraction=st.floats(0.1, 0.4))
def test_labels_are_divided_each_near_its_share(seed: int, fraction: float) -> None:
    random = np.random.default_rng(seed)
    rates = {"often": 0.5, "sometimes": 0.2, "seldom": 0.03}
    labels = ["|".join(sorted(name for name, rate in rates.items() if random.random() < rate)) for _ in range(400)]
    samples = [Sample(f"{number}.jpg", label) for number, label in enumerate(labels)]
    left, taken = carve_labels(samples, fraction, (seed,), 1)
    assert Counter([*left, *taken]) == Counter(samples)
    assert len(taken) == pytest.approx(400 * fraction, abs=25)
    for name in rates:
        count, held = (sum(name in sample.label.split("|") for sample in part) for part in (samples, taken))
        assert held == pytest.approx(fraction * count, abs=max(2, 0.05 * count))
        assert held >= (count > 1)


def test_of_three_images_of_a_label_each_part_gets_one() -> None:
    samples = [Sample(f"{n}.jpg", "a|b" if n < 3 else "a") for n in range(60)]
    split = make_split(source_of(samples, multilabel=True), val_fraction=0.15, test_fraction=0.15, seed=0)
    assert [sum(sample.label == "a|b" for sample in split.part(part)) for part in PARTS] == [1, 1, 1]
