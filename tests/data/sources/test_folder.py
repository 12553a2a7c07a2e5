"""What lies on disk is listed completely and in order; a mistake in the folders is named with its cure."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from effnet_ft.data.images.decoding import SUFFIXES
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.sources.source import Sample, require_usable_names
from effnet_ft.errors import DataError


def touch(root: Path, *files: str) -> Path:
    """Make empty files below ``root``: a source lists images and does not read them."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def listed(source_splits: dict[str, list[Sample]]) -> dict[str, list[tuple[str, str]]]:
    return {split: [(sample.path, sample.label) for sample in samples] for split, samples in source_splits.items()}


def test_class_folders_alone_are_listed_as_all(tmp_path: Path) -> None:
    source = scan_folder(str(touch(tmp_path, "dog/2.jpg", "dog/10.jpg", "cat/1.jpg")))
    assert source.root == tmp_path
    assert source.classes == ("cat", "dog")
    assert listed(source.splits) == {"all": [("cat/1.jpg", "cat"), ("dog/10.jpg", "dog"), ("dog/2.jpg", "dog")]}
    assert source.ignored == []


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("train", "test"), ("train", "test")),
        (("train",), ("train",)),
        (("train", "valid"), ("train", "val")),
        (("train", "validation", "test"), ("train", "val", "test")),
        (("Train", "VAL", "Test"), ("train", "val", "test")),
        (("Training", "Testing"), ("train", "test")),
    ],
    ids="+".join,
)
def test_split_folders_are_listed_apart(folders: tuple[str, ...], expected: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}/{label}/1.jpg" for folder in folders for label in "ba"))
    source = scan_folder(tmp_path)
    assert source.classes == ("a", "b")
    assert listed(source.splits) == {
        split: [(f"{folder}/{label}/1.jpg", label) for label in "ab"]
        for split, folder in zip(expected, folders, strict=True)
    }


def test_a_class_may_be_missing_outside_train(tmp_path: Path) -> None:
    source = scan_folder(touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/b/1.jpg"))
    assert source.classes == ("a", "b")
    assert listed(source.splits)["val"] == [("val/b/1.jpg", "b")]


def test_class_folders_are_searched_to_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "a/x/y/1.jpg", "a/x/2.jpg", "a/3.jpg", "a/folder.jpg/4.jpg", "b/test/5.jpg")
    assert listed(scan_folder(tmp_path).splits)["all"] == [
        ("a/3.jpg", "a"),
        ("a/folder.jpg/4.jpg", "a"),
        ("a/x/2.jpg", "a"),
        ("a/x/y/1.jpg", "a"),
        ("b/test/5.jpg", "b"),
    ]


@pytest.mark.parametrize("suffix", [*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)])
def test_every_listed_ending_is_an_image(suffix: str, tmp_path: Path) -> None:
    source = scan_folder(touch(tmp_path, f"a/1{suffix}", "b/1.jpg"))
    assert listed(source.splits)["all"][0] == (f"a/1{suffix}", "a")


def test_other_files_are_ignored_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    hidden = ("a/.2.jpg", "a/.DS_Store", "a/.cache/3.jpg", ".git/4.jpg", ".train/a/5.jpg")
    source = scan_folder(touch(tmp_path, "a/1.jpg", "b/1.jpg", "a/notes.txt", "b/x/jpg", "b/movie.mp4", *hidden))
    assert listed(source.splits)["all"] == [("a/1.jpg", "a"), ("b/1.jpg", "b")]
    assert source.ignored == ["a/notes.txt", "b/movie.mp4", "b/x/jpg"]


@pytest.mark.parametrize("name", ["two words", "café", "日本", "o'clock", 'say "x"', "a,b", "=1+1", "%s", "{x}"])
def test_hostile_class_names_are_names_like_others(name: str, tmp_path: Path) -> None:
    source = scan_folder(touch(tmp_path, f"train/{name}/1.jpg", "train/zz/1.jpg"))
    assert sorted(source.classes) == sorted((name, "zz"))
    assert Sample(f"train/{name}/1.jpg", name) in source.splits["train"]


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a/1.jpg", "elsewhere/b/1.jpg", "root/val/b/1.jpg")
    (tmp_path / "root" / "val" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "root" / "train").symlink_to(tmp_path / "elsewhere")
    (touch(tmp_path, "more/2.jpg") / "elsewhere" / "b" / "more").symlink_to(tmp_path / "more")
    assert listed(scan_folder(tmp_path / "root").splits) == {
        "train": [("train/a/1.jpg", "a"), ("train/b/1.jpg", "b"), ("train/b/more/2.jpg", "b")],
        "val": [("val/a/1.jpg", "a"), ("val/b/1.jpg", "b")],
    }


def test_the_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "pictures/a/1.jpg", "pictures/b/1.jpg")
    assert scan_folder("~/pictures").root == tmp_path / "pictures"


MISTAKES = {
    "root-is-a-file": ("file", ["file"], r"/file', which is a file: give the folder that holds the images"),
    "root-is-a-list": ("l.CSV", ["l.CSV"], r"/l.CSV', which is a list of images: add data.source=manifest"),
    "root-is-an-archive": ("a.zip", ["a.zip"], r"/a.zip', which is an archive: unpack it, and give the folder"),
    "root-is-missing": ("gone", [], r"/gone', which does not exist: give the folder"),
    "empty": ("r", ["r/.keep"], r"no images in .*/r: expected a folder for each class"),
    "loose": ("r", ["r/1.jpg", "r/2.PNG", "r/notes.txt"], r"no images in .*/r: .*; 2 images in it without a class"),
    "empty-split": ("r", ["r/train/a/1.jpg", "r/train/b/1.jpg", "r/val/.keep"], r"no images in .*/r/val: expected"),
    "empty-class": (
        "r",
        ["r/a/1.jpg", "r/b/1.jpg", "r/b/2.HEIC", "r/hollow/notes.txt"],
        r"no image in 1 class folder of .*/r: add images, or remove empty folders\n  hollow$",
    ),
    "class-of-a-telephone": (
        "r",
        ["r/a/1.jpg", "r/b/1.HEIC"],
        r"no image in 1 class folder of .*/r: .*; HEIC and raw .* save them as JPEG\n  b$",
    ),
    "empty-class-in-val": (
        "r",
        ["r/train/a/1.jpg", "r/train/b/1.jpg", "r/val/a/1.jpg", "r/val/b/.keep"],
        r"no image in 1 class folder of .*/r/val: add .*\n  b$",
    ),
    "one-class": ("r", ["r/only/1.jpg"], r"one class only, 'only': a classifier needs at least two class folders"),
    "one-folder-too-high": ("r", ["r/in/a/1.jpg", "r/in/b/1.jpg"], r"one class only.*; if they lie in .*/r/in, give"),
    "strange-class": (
        "r",
        ["r/train/a/1.jpg", "r/train/b/1.jpg", "r/test/a/1.jpg", "r/test/yeti/1.jpg"],
        r"1 class of test/ without a folder in train/.*: add training images, or remove them from test/\n  yeti$",
    ),
    "class-in-other-capitals": (
        "r",
        ["r/train/Rose/1.jpg", "r/train/b/1.jpg", "r/test/rose/1.jpg"],
        r"1 class of test/ without a folder in train/.*\n  rose; train/ has 'Rose', spelled differently$",
    ),
    "class-with-accents-apart": (
        "r",
        ["r/train/\u00e9/1.jpg", "r/train/b/1.jpg", "r/test/e\u0301/1.jpg"],
        r"; train/ has '\u00e9', spelled differently$",
    ),
    "no-train": ("r", ["r/val/a/1.jpg", "r/Test/a/1.jpg"], r"/r has val/, Test/ but no train/: there is nothing to"),
}
"""Root, files, and what the message must say."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_cure(mistake: str, tmp_path: Path) -> None:
    root, files, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        scan_folder(touch(tmp_path, *files) / root)


def test_evaluation_takes_what_training_refuses(tmp_path: Path) -> None:
    one = scan_folder(touch(tmp_path / "one", "a/1.jpg"), for_training=False)
    assert one.classes == ("a",)
    untrained = scan_folder(touch(tmp_path / "two", "test/a/1.jpg", "val/b/1.jpg"), for_training=False)
    assert untrained.classes == ("a", "b")
    assert listed(untrained.splits) == {"val": [("val/b/1.jpg", "b")], "test": [("test/a/1.jpg", "a")]}


@pytest.mark.parametrize(
    ("files", "inner"),
    [
        (["2023/daisy/1.jpg", "2024/rose/x/1.jpg"], ["daisy", "rose"]),
        (["train/2023/rose/1.jpg", "train/2024/daisy/1.jpg"], ["daisy", "rose"]),
        (["a/old/1.jpg", "b/old/1.jpg", "b/2.jpg"], []),
        (["train/a/1.jpg", "train/b/1.jpg"], []),
    ],
    ids=["classes further in", "in a split", "some", "none"],
)
def test_folders_that_may_be_the_classes_meant(files: list[str], inner: list[str], tmp_path: Path) -> None:
    assert scan_folder(touch(tmp_path, *files)).inner_folders == inner


def test_photographs_that_are_not_read_are_told_apart(tmp_path: Path) -> None:
    source = scan_folder(touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.HEIC", "b/3.cr2", "b/notes.txt"))
    assert source.unread_photographs == ["b/2.HEIC", "b/3.cr2"]
    assert source.ignored == ["b/2.HEIC", "b/3.cr2", "b/notes.txt"]


def test_a_class_called_train_beside_others(image_folder: Callable[..., Path]) -> None:
    assert scan_folder(image_folder(bus=1, train=2)).classes == ("bus", "train")


def test_folders_beside_the_split_are_listed(image_folder: Callable[..., Path]) -> None:
    source = scan_folder(image_folder(**{"train/a": 1, "train/b": 1, "more/a": 1}))
    assert source.classes == ("a", "b")
    assert source.ignored == ["more/"]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


@pytest.mark.parametrize(
    "names",
    [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("a b", "a  b"), ("a", "a "), ("x y", "x\u00a0y"), ("z", "z\u200b")],
    ids=ascii,
)
def test_classes_that_look_the_same_are_one_message(names: tuple[str, str], tmp_path: Path) -> None:
    for name in (*names, "other"):
        picture(tmp_path / name / "1.jpg")
    with pytest.raises(DataError, match=r"1 class of .* written in several ways: rename or merge them") as caught:
        require_usable_names(scan_folder(tmp_path))
    assert " and ".join(map(ascii, sorted(names))) in str(caught.value)


def test_letters_are_classes_in_both_cases(tmp_path: Path) -> None:
    require_usable_names(scan_folder(touch(tmp_path, "A/1.jpg", "a/1.jpg")))


def test_folders_that_systems_make_are_passed_over_and_counted(tmp_path: Path) -> None:
    for name in (
        "a/1.jpg",
        "a/@eaDir/1.jpg",
        "b/1.jpg",
        "__MACOSX/a/1.jpg",
        "lost+found/1.jpg",
        "$RECYCLE.BIN/1.jpg",
        "System Volume Information/1.jpg",
        ".ipynb_checkpoints/1.jpg",
    ):
        picture(tmp_path / name)
    (tmp_path / "a" / "Thumbs.db").touch()
    source = scan_folder(tmp_path)
    assert source.classes == ("a", "b") and [sample.path for sample in source.part("all")] == ["a/1.jpg", "b/1.jpg"]
    made = ["$RECYCLE.BIN/", "System Volume Information/", "__MACOSX/", "a/@eaDir/", "a/Thumbs.db", "lost+found/"]
    assert sorted(source.ignored) == made


@pytest.mark.parametrize(
    ("link", "target", "first", "second"),
    [
        ("train/a/other", "train/b", "train/a/other", "train/b"),
        ("train/a/up", "train", "train/a/up/b", "train/b"),
        ("train/b/deep", "train/a/x", "train/a/x", "train/b/deep"),
        ("train/c", "train/a", "train/a", "train/c"),
        ("train/a/up", "test", "train/a/up/b", "test/b"),
    ],
)
def test_a_link_to_images_of_another_class_is_refused(
    link: str, target: str, first: str, second: str, tmp_path: Path
) -> None:
    touch(tmp_path, "train/a/x/1.jpg", "train/b/2.jpg", "test/b/3.jpg")
    (tmp_path / link).symlink_to(tmp_path / target)
    message = f"{tmp_path}/{first} and {tmp_path}/{second} are the same folder in two classes: remove the link"
    with pytest.raises(DataError, match=message):
        scan_folder(tmp_path)


def test_a_link_within_a_class_lists_its_images_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/x/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "x" / "up").symlink_to(tmp_path / "a")
    source = scan_folder(tmp_path)
    assert listed(source.splits)["all"] == [("a/x/1.jpg", "a"), ("b/2.jpg", "b")]
    assert source.ignored == ["a/x/up/"]


PARTS = {
    "training_set/ to train/": ("test_set", "training_set"),
    "Train Images/ to train/": ("Train Images", "Val Images"),
    "train-data/ to train/": ("testdata", "train-data"),
    "images_train/ to train/": ("images_train", "images_validation"),
    "train2017/ to train/, val2017/ to val/": ("train2017", "val2017"),
    "train_set/ to train/$": ("test", "train_set"),
}


@pytest.mark.parametrize("rename", PARTS)
def test_parts_by_other_names_are_not_taken_for_classes(rename: str, tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{label}/1.jpg" for part in PARTS[rename] for label in "ab"))
    with pytest.raises(DataError, match=f"would be read as classes: rename .*{rename}"):
        scan_folder(tmp_path)


@pytest.mark.parametrize("other", ["test_images", "train station", "training"])
def test_classes_are_no_parts(other: str, tmp_path: Path) -> None:
    assert scan_folder(touch(tmp_path, f"{other}/1.jpg", "bus/1.jpg")).classes == tuple(sorted(("bus", other)))
