"""ImageNet's validation images in every form people have them in, on small files of the official formats."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from effnet_ft.cli import main
from effnet_ft.data.images.decoding import ArchiveMember, read_image
from effnet_ft.data.sources.imagenet import scan_imagenet
from effnet_ft.data.sources.source import Source
from effnet_ft.errors import DataError
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.models.weights.table import WEIGHTS

CLASSES = imagenet_classes()
LABELS = tuple(CLASSES[number] for number in (65, 970, 230, 809, 516, 65))
NAMES = tuple(f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, len(LABELS) + 1))
EXPECTED = dict(zip(NAMES, LABELS, strict=True))


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """The official flat folder, its first images."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(random.integers(0, 256, (40, 56, 3), np.uint8)).save(folder / name)
    return folder


def pack(folder: Path, archive: Path, mode: str = "w") -> Path:
    """Write a tar of what lies in ``folder``, as ``tar -C folder -c .`` does."""
    with tarfile.open(archive, mode) as file:
        for path in sorted(folder.rglob("*")):
            file.add(path, path.relative_to(folder), recursive=False)
    return archive


def found(source: Source) -> dict[str, str]:
    return {Path(sample.path).name: sample.label for sample in source.part("val") or source.part("all")}


# The lists of classes


def devkit(place: Path) -> None:
    """Write the development kit, whose class numbers follow neither the WordNet ids nor ImageNet's usual order."""
    order = sorted(CLASSES, key=lambda wnid: wnid[::-1])
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    leaves = [(number, wnid, "words", "gloss", 0, np.zeros(0), 0, 1300) for number, wnid in enumerate(order, 1)]
    inner = [(number, f"n9999{number}", "words", "gloss", 2, np.array([1, 2]), 3, 0) for number in (1001, 1002)]
    synsets = np.array([*leaves, *inner], [(name, object) for name in (*fields, "num_train_images")])
    (place / "data").mkdir(parents=True)
    savemat(place / "data" / "meta.mat", {"synsets": synsets[:, None]})
    numbers = [order.index(wnid) + 1 for wnid in LABELS]
    (place / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in numbers))


def devkit_archive(place: Path) -> None:
    folder = place.parent / "unpacked" / "ILSVRC2012_devkit_t12"
    devkit(folder)
    pack(folder.parent, place, "w:gz")
    shutil.rmtree(folder.parent)


def lines(*texts: str) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        place.parent.mkdir(exist_ok=True)
        place.write_text("\n".join(texts) + "\n")

    return write


KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "devkit": ("ILSVRC2012_devkit_t12", devkit),
    "devkit archive": ("ILSVRC2012_devkit_t12.tar.gz", devkit_archive),
    "class numbers": (
        "val.txt",
        lines(*(f"{name} {CLASSES.index(wnid)}" for name, wnid in reversed(EXPECTED.items()))),
    ),
    "WordNet ids": ("meta/val.txt", lines(*(f"{name} {wnid}" for name, wnid in reversed(EXPECTED.items())))),
    "ids in order": ("imagenet_2012_validation_synset_labels.txt", lines(*LABELS)),
    "Kaggle's": (
        "LOC_val_solution.csv",
        lines(
            "ImageId,PredictionString",
            *(f"{name[:-5]},{wnid} 1 2 30 40 {wnid} 5 6 7 8 " for name, wnid in EXPECTED.items()),
        ),
    ),
}
each_kind = pytest.mark.parametrize(("name", "write"), KINDS.values(), ids=KINDS)


@each_kind
@pytest.mark.parametrize("where", ["inside", "beside", "given", "beside a tar", "given with a tar"])
def test_every_list_of_classes(
    flat: Path, tmp_path: Path, name: str, write: Callable[[Path], None], where: str
) -> None:
    root = pack(flat, tmp_path / "ILSVRC2012_img_val.tar") if "tar" in where else flat
    place = {"inside": flat, "beside": tmp_path, "given": tmp_path / "elsewhere"}[where.split()[0]] / name
    place.parent.mkdir(parents=True, exist_ok=True)
    write(place)
    source = scan_imagenet(root, CLASSES, str(place) if "given" in where else None)
    assert found(source) == EXPECTED
    assert source.classes == tuple(sorted(set(LABELS)))
    assert set(source.splits) == {"val"}


def test_the_official_list_unpacked_beside_its_table(flat: Path, tmp_path: Path) -> None:
    devkit(tmp_path / "kit")
    list_ = tmp_path / "kit" / "data" / "ILSVRC2012_validation_ground_truth.txt"
    assert found(scan_imagenet(flat, CLASSES, str(list_))) == EXPECTED
    (list_.parent / "meta.mat").unlink()
    with pytest.raises(DataError, match=r"need its meta\.mat beside them"):
        scan_imagenet(flat, CLASSES, str(list_))


@each_kind
def test_some_of_the_images(flat: Path, tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    for gone in NAMES[::2]:
        (flat / gone).unlink()
    assert found(scan_imagenet(flat, CLASSES)) == {kept: EXPECTED[kept] for kept in NAMES[1::2]}


def test_a_list_that_is_given_goes_before_one_that_lies_there(flat: Path, tmp_path: Path) -> None:
    lines(*LABELS[::-1])(flat / "val.txt")
    lines(*LABELS)(tmp_path / "right.txt")
    assert found(scan_imagenet(flat, CLASSES, str(tmp_path / "right.txt"))) == EXPECTED


def test_no_list(flat: Path) -> None:
    with pytest.raises(DataError, match=r"data\.ground_truth=.*ILSVRC2012_devkit_t12.*LOC_val_solution\.csv.*val\.txt"):
        scan_imagenet(flat, CLASSES)


# Damage and mistakes


def cut(place: Path, share: float) -> None:
    content = place.read_bytes()
    place.write_bytes(content[: int(share * len(content))])


def cut_table(place: Path, share: float) -> None:
    devkit(place)
    cut(place / "data" / "meta.mat", share)


def cut_archive(place: Path, share: float) -> None:
    devkit_archive(place)
    cut(place, share)


def unknown_number(place: Path) -> None:
    devkit(place)
    (place / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("1003\n" * len(NAMES))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("kit", lambda place: place.mkdir()),
        ("kit", lambda place: cut_table(place, 0.5)),
        ("kit", lambda place: cut_table(place, 0)),
        ("kit", unknown_number),
        ("kit.tar.gz", lambda place: cut_archive(place, 0)),
        ("kit.tar.gz", lambda place: cut_archive(place, 0.5)),
        ("val.txt", lines("ILSVRC2012_val_00000001.JPEG 1000")),
        ("val.txt", lines("1", "2")),
        ("val.txt", lines("one two three")),
        ("val.txt", lambda place: place.write_bytes(b"\xff\xfe\x00")),
        ("val.csv", lines("a,b", "1,2")),
        ("val.csv", lines("ImageId,PredictionString", "ILSVRC2012_val_00000001,")),
        ("val.csv", lines("ImageId,PredictionString", "ILSVRC2012_val_00000001")),
        ("none.txt", lambda place: None),
    ],
)
def test_a_list_that_cannot_be_read(flat: Path, tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    place = tmp_path / name
    write(place)
    with pytest.raises(DataError) as error:
        scan_imagenet(flat, CLASSES, str(place))
    assert str(error.value).startswith(f"cannot read the ground truth {place}: ")


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (LABELS[:-2], 2),
        ([f"{name} {wnid}" for name, wnid in list(EXPECTED.items())[:-2]], 2),
        ([f"{name} n01" for name in NAMES[:-1]], 6),
        ([], 6),
    ],
    ids=["too few ids", "too few names", "unknown ids", "empty"],
)
def test_images_that_the_list_does_not_know(flat: Path, tmp_path: Path, texts: Sequence[str], count: int) -> None:
    lines(*texts)(tmp_path / "val.txt")
    with pytest.raises(DataError) as error:
        scan_imagenet(flat, CLASSES)
    first, *names = str(error.value).splitlines()
    assert first == f"{count} images of {flat} without a class in the ground truth"
    assert names[0].strip() == NAMES[-count]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_tar_cut_short(flat: Path, tmp_path: Path, share: float) -> None:
    archive = pack(flat, tmp_path / "ILSVRC2012_img_val.tar")
    lines(*LABELS)(tmp_path / "val.txt")
    cut(archive, share)
    with pytest.raises(DataError, match="is it complete") as error:
        scan_imagenet(archive, CLASSES)
    assert str(archive) in str(error.value)


@pytest.mark.parametrize("kind", ["compressed", "an image"])
def test_a_file_that_is_no_plain_tar(flat: Path, tmp_path: Path, kind: str) -> None:
    root = pack(flat, tmp_path / "val.tar.gz", "w:gz") if kind == "compressed" else flat / NAMES[0]
    with pytest.raises(DataError, match=f"cannot read {root} as an uncompressed tar file"):
        scan_imagenet(root, CLASSES)


@pytest.mark.parametrize("kind", ["folder", "tar", "nowhere"])
def test_no_images(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "empty"
    if kind != "nowhere":
        root.mkdir()
    root = pack(root, tmp_path / "empty.tar") if kind == "tar" else root
    what = "does not exist" if kind == "nowhere" else "holds no images"
    with pytest.raises(DataError, match=rf"data\.root is '{root}', which {what}"):
        scan_imagenet(root, CLASSES)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_hidden_files_are_passed_over(flat: Path, tmp_path: Path, packed: bool) -> None:
    (flat / f"._{NAMES[0]}").write_bytes(b"Mac OS X")
    lines(*LABELS)(tmp_path / "val.txt")
    assert found(scan_imagenet(pack(flat, tmp_path / "val.tar") if packed else flat, CLASSES)) == EXPECTED


# Images and numbers


@pytest.fixture
def forms(flat: Path, tmp_path: Path) -> dict[str, Path]:
    """The same images in every form."""
    lines(*LABELS)(tmp_path / "val.txt")
    for name, wnid in EXPECTED.items():
        folder = tmp_path / "sorted" / "val" / wnid
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(flat / name, folder)
    sorted_ = tmp_path / "sorted"
    return {
        "flat": flat,
        "class folders": sorted_ / "val",
        "class folders in val": sorted_,
        "flat tar": pack(flat, tmp_path / "flat.tar"),
        "tar of class folders": pack(sorted_ / "val", tmp_path / "classes.tar"),
        "tar of class folders in val": pack(sorted_, tmp_path / "val.tar"),
    }


def test_every_form_holds_the_same_images(forms: dict[str, Path], flat: Path) -> None:
    for form, root in forms.items():
        source = scan_imagenet(root, CLASSES)
        assert found(source) == EXPECTED, form
        for sample in source.part("val") or source.part("all"):
            image = source.image(sample)
            assert isinstance(image, ArchiveMember) == ("tar" in form)
            assert np.array_equal(read_image(image), read_image(flat / Path(sample.path).name)), form


def test_every_form_gives_the_same_numbers(
    forms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = WEIGHTS["lite0/lite"]
    printed, answers = {}, {}
    for form, root in forms.items():
        table = tmp_path / "answers.csv"
        settings = [f"data.root={root}", "model.variant=lite0", "data.image_size=64", "data.batch_size=4"]
        assert main(["evaluate", "imagenet_eval", *settings, "--out", str(table)]) == 0
        head, *rows = capsys.readouterr().out.splitlines()
        assert head == f"6 images, {'all' if form == 'class folders' else 'val split'}"
        published = [row for row in rows if "published" in row]
        assert len(published) == 1 and "/acc1" in published[0] and f": {record.top1 / 100:.4f}" in published[0]
        printed[form] = [row.split()[1] for row in rows]
        rest = [line.split("/")[-1] for line in table.read_text().splitlines()]
        answers[form] = sorted(rest)
    assert all(numbers == printed["flat"] for numbers in printed.values())
    assert all(rows == answers["flat"] for rows in answers.values())


def test_a_broken_image_of_an_archive_is_named(flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (flat / NAMES[2]).write_bytes(b"no image")
    lines(*LABELS)(tmp_path / "val.txt")
    archive = pack(flat, tmp_path / "val.tar")
    member = scan_imagenet(archive, CLASSES).members[NAMES[2]]
    with pytest.raises(DataError, match="not an image"):
        read_image(member)
    assert main(["evaluate", "imagenet_eval", f"data.root={archive}", "data.image_size=64"]) == 2
    assert f"cannot read the image {archive}:{NAMES[2]}: " in capsys.readouterr().err
