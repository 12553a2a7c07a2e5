"""ImageNet to train on, in every layout that people have it in, on small files of the official formats."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from published_files import cut, draw, md5
from scipy.io import savemat
from tiny import TINY
from torchvision import datasets

from effnet_ft.cli import main
from effnet_ft.data.sources.imagenet import read_imagenet
from effnet_ft.errors import DataError
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.runs.run_folder import Run

WNIDS = imagenet_classes()
USED = tuple(sorted((WNIDS[65], WNIDS[970], WNIDS[230])))
TRAIN = [(f"train/{wnid}/{wnid}_{number}.JPEG", wnid) for wnid in USED for number in (10, 3)]
VAL = [(f"ILSVRC2012_val_{number:08}.JPEG", wnid) for number, wnid in enumerate((*USED[::-1], USED[0]), 1)]


def draw_train(root: Path) -> None:
    for number, (path, _) in enumerate(TRAIN):
        draw(root / path, number)


def class_folders(root: Path, patch: pytest.MonkeyPatch) -> None:
    draw_train(root)
    for number, (name, wnid) in enumerate(VAL):
        draw(root / "val" / wnid / name, number)


def flat_val(root: Path, patch: pytest.MonkeyPatch) -> None:
    draw_train(root)
    for number, (name, _) in enumerate(VAL):
        draw(root / "val" / name, number)
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("".join(f"{wnid}\n" for _, wnid in VAL))


def lists(root: Path, patch: pytest.MonkeyPatch, where: str = "", marks: Sequence[str] = WNIDS) -> None:
    flat_val(root, patch)
    (root / "imagenet_2012_validation_synset_labels.txt").unlink()
    (root / where).mkdir(exist_ok=True)
    draw(root / "train" / USED[0] / "not-listed.JPEG", 1)
    lines = [f"{path.removeprefix('train/')} {marks[WNIDS.index(wnid)]}\n" for path, wnid in TRAIN]
    (root / where / "train.txt").write_text("".join(lines))
    (root / where / "val.txt").write_text("".join(f"val/{name} {marks[WNIDS.index(wnid)]}\n" for name, wnid in VAL))


def numbered_lists(root: Path, patch: pytest.MonkeyPatch) -> None:
    lists(root, patch, "meta", [str(number) for number in range(1000)])


def tar(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as file:
        for path in sorted(folder.iterdir()):
            file.add(path, path.name)


def archives(root: Path, patch: pytest.MonkeyPatch) -> None:
    place = root.parent / "to-pack"
    draw_train(place)
    (place / "inner").mkdir()
    for wnid in USED:
        tar(place / "train" / wnid, place / "inner" / f"{wnid}.tar")
    root.mkdir(exist_ok=True)
    tar(place / "inner", root / "ILSVRC2012_img_train.tar")
    for number, (name, _) in enumerate(VAL):
        draw(place / "val" / name, number)
    tar(place / "val", root / "ILSVRC2012_img_val.tar")
    kit = place / "kit" / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    columns = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    leaves = [(number, wnid, "a, b", "gloss", 0, np.zeros(0), 0) for number, wnid in enumerate(USED[::-1], 1)]
    synsets = np.array([*leaves, (4, "n99", "inner", "gloss", 2, np.array([1, 2]), 1)], [(c, object) for c in columns])
    savemat(kit / "meta.mat", {"synsets": synsets[:, None]})
    numbers = "".join(f"{USED[::-1].index(wnid) + 1}\n" for _, wnid in VAL)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(numbers)
    tar(place / "kit", root / "ILSVRC2012_devkit_t12.tar.gz")
    meta = datasets.imagenet.ARCHIVE_META
    for part, (file, _) in meta.items():
        patch.setitem(meta, part, (file, md5(root / file)))


LAYOUTS = {
    "class folders": class_folders,
    "a flat val": flat_val,
    "lists": lists,
    "numbered lists": numbered_lists,
    "archives": archives,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_imagenet_in_every_layout(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    LAYOUTS[layout](root, monkeypatch)
    (root / "test").mkdir()  # the official images for the test have no public classes
    for _ in range(2):  # archives are unpacked in the first round
        source = read_imagenet(root, WNIDS)
        assert source.classes == USED
        assert set(source.splits) == {"train", "val"}
        assert sorted((sample.path, sample.label) for sample in source.part("train")) == TRAIN
        assert sorted((Path(sample.path).name, sample.label) for sample in source.part("val")) == VAL
        assert all(source.image(sample).is_file() for sample in source.part("all"))
    assert not list(root.glob(".*.part"))


@pytest.mark.parametrize("file", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"])
def test_imagenets_archives_cut_short_or_missing(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives(tmp_path / "root", monkeypatch)
    cut(tmp_path / "root" / file)
    with pytest.raises(DataError, match=f"cannot unpack .*{file}.*\n.*Download damaged files again"):
        read_imagenet(tmp_path / "root", WNIDS)
    (tmp_path / "root" / file).unlink()
    with pytest.raises(DataError, match=rf"neither .* nor {file}: give the folder that holds train/ and val/"):
        read_imagenet(tmp_path / "root", WNIDS)
    assert not list((tmp_path / "root").glob(".*.part"))


def test_imagenet_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives(tmp_path / "root", monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"takes 0\.0 GB, but only 0\.0 GB are free"):
        read_imagenet(tmp_path / "root", WNIDS)
    assert not (tmp_path / "root" / "train").exists()


def test_imagenet_with_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"which does not exist: give the folder"):
        read_imagenet(tmp_path / "none", WNIDS)
    class_folders(tmp_path, monkeypatch)
    shutil.rmtree(tmp_path / "train" / USED[0])
    with pytest.raises(DataError, match=f"no training images of 1 class of the validation images.*\n  {USED[0]}"):
        read_imagenet(tmp_path, WNIDS)
    (tmp_path / "train" / USED[1]).rename(tmp_path / "train" / "cat")
    with pytest.raises(DataError, match=r"1 class folder of .*train not named by an ImageNet WordNet id"):
        read_imagenet(tmp_path, WNIDS)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nowhere.JPEG 5\n", "1 of the 7 images of"),
        ("a.JPEG 1000\n", "line 7: 'a.JPEG 1000' is not a path with a class number 0-999"),
        ("a.JPEG n1\n", "line 7: 'a.JPEG n1' is not a path"),
        ("a.JPEG\n", "line 7: 'a.JPEG' is not a path"),
    ],
)
def test_imagenets_lists_with_faults(line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists(tmp_path, monkeypatch)
    with (tmp_path / "train.txt").open("a") as file:
        file.write(line)
    with pytest.raises(DataError) as error:
        read_imagenet(tmp_path, WNIDS)
    assert told in str(error.value) and str(tmp_path / "train.txt") in str(error.value)


PHASES = "phases=[{train: head, epochs: 2, lr: 1e-3}, {train: stage7, epochs: 2, lr: 1e-3}]"


def test_training_on_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat_val(tmp_path / "root", monkeypatch)
    run = Run(tmp_path / "run")
    keys = ["data.source=imagenet", f"data.root={tmp_path / 'root'}", f"run_dir={run.folder}"]
    assert main(["train", "folder", *keys, PHASES, *TINY]) == 0
    assert tuple(run.classes.read_text().splitlines()) == USED
    assert len(run.predictions.read_text().splitlines()) == 1 + len(VAL)


def test_imagenets_archives_cannot_write_outside_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives(tmp_path / "root", monkeypatch)
    archive = tmp_path / "root" / "ILSVRC2012_img_val.tar"
    with tarfile.open(archive, "a") as file:
        file.addfile(tarfile.TarInfo("../../evil"))
    monkeypatch.setitem(datasets.imagenet.ARCHIVE_META, "val", (archive.name, md5(archive)))
    with pytest.raises(DataError, match=f"cannot unpack .*{archive.name}"):
        read_imagenet(tmp_path / "root", WNIDS)
    assert not list(tmp_path.rglob("evil")) and not list((tmp_path / "root").glob(".*.part"))
