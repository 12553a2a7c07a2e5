"""A manifest is read whatever wrote it, every wrong row is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effnet_ft.data.sources.manifest import read_manifest
from effnet_ft.data.sources.source import Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.errors import DataError


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
        f"7 wrong rows in {tmp_path / 'manifest.csv'}",
        "  row 3: there is no file 'gone.jpg'",
        "  row 4: '2.jpg' has no label",
        "  row 5: the split is 'dev', expected train, val or test",
        "  row 6: '1.jpg' differs from row 2",
        "  row 8: the path is empty",
        "  row 9: 2 cells, the header has 3",
        "  1 row without a split while others have one: 10; give it in every row or in none",
    ]


MISTAKES = {
    "no-file": (None, r"there is no .*manifest\.csv: give the manifest"),
    "empty": ("", r"has no column 'path' and no column 'label'"),
    "no-label": ("path,class\n1.jpg,a\n", r"has no column 'label': .*it is: path, class"),
    "both": ("path,label,labels\n1.jpg,a,b\n", r"'label' and a column 'labels': keep one"),
    "twice": ("path,label,path\n1.jpg,a,1.jpg\n", r"column 'path' twice"),
    "no-rows": ("path,label\n", r"lists no images"),
    "one-class": ("path,label\n1.jpg,a\n2.jpg,a\n", r"one class only, 'a'"),
    "no-labels-at-all": ("path,labels\n1.jpg,\n2.jpg,\n", r"has no label in any row"),
    "no-train": ("path,label,split\n1.jpg,a,val\n2.jpg,b,test\n", r"rows of val, test, but none of train"),
    "strange": (
        "path,label,split\n1.jpg,a,train\n2.jpg,b,train\n3.jpg,c,val\n",
        r"1 class of .* without an image in train.*\n  c$",
    ),
    "torn-group": (
        "path,label,split,group\n1.jpg,a,train,p1\n2.jpg,b,train,p2\n3.jpg,b,val,p1\n",
        r"1 group of .* in more than one split: .*\n  p1: train, val$",
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
            "rows? in .* there is no file .*\n.* as 'CSV UTF-8'",
        ),
        ("path\tlabel\n1.jpg\ta\n".encode("utf-16"), "has no column 'path' .*as 'CSV UTF-8'"),
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


@pytest.mark.parametrize("other", ["./1.jpg", "sub/../1.jpg", "link.jpg", "{folder}/1.jpg"])
def test_one_file_by_two_names(other: str, tmp_path: Path) -> None:
    other = other.format(folder=tmp_path)
    rows = "path,label,split\n1.jpg,a,train\n2.jpg,b,train\n"
    path = manifest(tmp_path, rows, "1.jpg", "2.jpg")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "1.jpg")
    path.write_text(f"{rows}{other},a,train\n")
    assert [sample.path for sample in read_manifest(path).part("train")] == ["1.jpg", "2.jpg"]
    path.write_text(f"{rows}{other},a,test\n")
    with pytest.raises(DataError, match=r"row 4: .* is the same file as '1.jpg' and differs from row 2"):
        read_manifest(path)


def test_a_path_in_the_other_unicode_form_finds_its_file(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\ncafe\u0301.jpg,a\n2.jpg,b\n", "caf\u00e9.jpg", "2.jpg")
    assert [sample.path for sample in read_manifest(path).part("all")] == ["caf\u00e9.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'path,label\n1.jpg,blue\n2.jpg,"blue,wild"\n',
            "'blue,wild' contains the label 'blue': name the column labels",
        ),
        ('path,labels\n1.jpg,blue|red\n2.jpg,"blue, wild"\n', "'blue, wild' contains the label 'blue': separate"),
        ("path,label\n1.jpg,a\n2.jpg,\"['b', 'c']\"\n", r"row 3: the label '\['b', 'c'\]' looks like a list"),
        ("path,labels\n1.jpg,a\n2.jpg,[]\n", r"row 3: the label '\[\]' looks like a list"),
        ("path,label\n1.jpg,\"('b', 'c')\"\n2.jpg,a\n", r"row 2: the label '\('b', 'c'\)' looks like a list"),
    ],
)
def test_lists_of_labels_in_a_cell_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_manifest(manifest(tmp_path, text, "1.jpg", "2.jpg"))


def test_labels_may_look_a_little_like_lists(tmp_path: Path) -> None:
    text = 'path,labels\n1.jpg,animal|animal/cat|(unknown)\n2.jpg,"Paris, France"\n'
    classes = read_manifest(manifest(tmp_path, text, "1.jpg", "2.jpg")).classes
    assert classes == ("(unknown)", "Paris, France", "animal", "animal/cat")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_blanks_after_a_delimiter_are_no_part_of_a_cell(delimiter: str, tmp_path: Path) -> None:
    text = 'path, "label", split\n"1.jpg", "a, b; c", "train"\n 2.jpg, "d", train\n" 3.jpg", d, "test"\n'
    cells = text.replace(", ", f"{delimiter} ").replace(f"a{delimiter}", "a,")
    source = read_manifest(manifest(tmp_path, cells, "1.jpg", "2.jpg", " 3.jpg"))
    assert source.splits == {
        "train": [Sample("1.jpg", "a, b; c"), Sample("2.jpg", "d")],
        "test": [Sample(" 3.jpg", "d")],
    }
