"""Published data sets, on small files of their exact formats: read, downloaded, damaged, missing; and trained on."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_files import MAKERS, check, cut, left_in, make, md5, pieces, refused
from tiny import TINY
from torchvision import datasets
from trap import Trap

from effnet_ft.cli import main
from effnet_ft.data.images.decoding import read_image
from effnet_ft.data.sources.published import read_published
from effnet_ft.data.sources.published.table import PUBLISHED
from effnet_ft.data.splits.split import read_split
from effnet_ft.runs.run_folder import Run, read_checkpoint

NAMES = tuple(PUBLISHED)
PICKLED = tuple(name for name, entry in PUBLISHED.items() if entry.pickled)
each_set = pytest.mark.parametrize("name", NAMES)


# Reading


def test_every_set_is_tested() -> None:
    assert set(MAKERS) == set(PUBLISHED)


@each_set
def test_archives_are_unpacked_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(name, tmp_path, monkeypatch)
    check(read_published(name, made.folder, download=False), made, made.folder)
    assert not [path for path in left_in(made.folder) if ".part" in path]
    for archive in made.folder.rglob("*gz"):
        archive.unlink()
    for pickles in made.folder.glob("cifar-*"):
        shutil.rmtree(pickles)
    check(read_published(name, made.folder, download=False), made, made.folder)


@each_set
def test_unpacked_folders_serve_as_they_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(name, tmp_path, monkeypatch)
    check(read_published(name, made.tree, download=True), made, made.tree)


@pytest.mark.parametrize("name", PICKLED)
def test_pictures_lose_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(name, tmp_path, monkeypatch)
    source = read_published(name, made.tree)
    for sample in source.part("all"):
        assert np.array_equal(read_image(source.image(sample)), made.pixels[sample.path])


def test_pictures_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("cifar100", tmp_path, monkeypatch)
    save, saved = Image.Image.save, []

    def full(self: Image.Image, path: Path) -> None:
        saved.append(path)
        if len(saved) == 9:
            raise OSError("No space left on device")
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        assert "cannot unpack the images of CIFAR-100" in refused("cifar100", made.tree)
    assert not list(made.tree.glob("*png*")) and not list(made.tree.glob(".*.part"))
    check(read_published("cifar100", made.tree), made, made.tree)


def test_pictures_that_were_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("cifar100", tmp_path, monkeypatch)
    read_published("cifar100", made.tree)
    shutil.rmtree(made.tree / "cifar100-png" / "test" / "cat")
    assert f"remove the folder {made.tree / 'cifar100-png'}, so that" in refused("cifar100", made.tree)


def test_the_names_are_known_without_torch() -> None:
    code = (
        "import sys, effnet_ft.data.sources.published; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Missing and damaged files


@each_set
@pytest.mark.parametrize("kind", ["nowhere", "empty"])
def test_missing_files_are_all_named(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(name, tmp_path, monkeypatch)
    root = tmp_path / "root"
    if kind == "empty":
        root.mkdir()
    text = refused(name, root)
    assert PUBLISHED[name].title in text and f"put into {root / PUBLISHED[name].base}\n" in text
    assert ("data.download=on" in text) != PUBLISHED[name].offline
    for piece in pieces(name):
        assert piece.url in text and f"  {piece.name}, " in text
        assert not piece.folder or f"unpacked folder {piece.folder}/" in text
    assert left_in(tmp_path / "root") == []


def test_only_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("flowers102", tmp_path, monkeypatch)
    (made.folder / "flowers-102" / "setid.mat").unlink()
    text = refused("flowers102", made.folder)
    assert "setid.mat" in text and "imagelabels.mat" not in text and "102flowers.tgz" not in text


@pytest.mark.parametrize("download", [False, True])
def test_cars_can_no_longer_be_downloaded(download: bool, tmp_path: Path) -> None:
    text = refused("cars", tmp_path, download)
    assert "Stanford Cars can no longer be downloaded" in text
    for file in ("car_devkit.tgz", "cars_train.tgz", "cars_test.tgz", "cars_test_annos_withlabels.mat"):
        assert file in text


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "which is a file" in refused("food101", tmp_path / "file")


@each_set
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_every_damaged_file_is_named(name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(name, tmp_path, monkeypatch)
    for piece in pieces(name):
        root = tmp_path / f"root-{piece.name}"
        shutil.copytree(made.folder, root)
        path = root / PUBLISHED[name].base / piece.name
        cut(path) if damage == "cut" else path.write_bytes(b"a page that asks to log in")
        text = refused(name, root, download=True)
        assert text.startswith(f"{path} is cut short, damaged or another file: its MD5 is {md5(path)}, not {piece.md5}")
        assert f"remove it and download it again from {piece.url}" in text
        assert not (path.parent / piece.folder).is_dir() or not piece.folder
        shutil.copy(made.folder / PUBLISHED[name].base / piece.name, path)
        check(read_published(name, root, download=False), made, root)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("cifar100", "cifar-100-python/test"),
        ("cifar100", "cifar-100-python/meta"),
        ("flowers102", "flowers-102/setid.mat"),
        ("cars", "stanford_cars/cars_test_annos_withlabels.mat"),
        ("food101", "food-101/meta/test.json"),
        ("pets", "oxford-iiit-pet/annotations/trainval.txt"),
        ("aircraft", "fgvc-aircraft-2013b/data/images_variant_val.txt"),
        ("cars", "stanford_cars/devkit/cars_meta.mat"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_lists_of_an_unpacked_folder(
    name: str, path: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(name, tmp_path, monkeypatch)
    cut(made.tree / path) if damage == "cut" else (made.tree / path).unlink()
    text = refused(name, made.tree)
    hashed = name.startswith("cifar") or path.endswith(("setid.mat", "labels.mat"))
    assert str(made.tree / path) in text or not hashed or (damage == "gone" and Path(path).name in text)
    assert PUBLISHED[name].title in text or hashed
    assert "remove" in text or "put into" in text


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PICKLED])
def test_missing_images_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(name, tmp_path, monkeypatch)
    gone = made.splits["test"][1][0]
    (made.tree / gone).unlink()
    count = sum(map(len, made.splits.values()))
    text = refused(name, made.tree)
    assert f"1 of the {count} images of {PUBLISHED[name].title};" in text
    assert text.splitlines()[1].strip() == gone


# Training

PHASES = "phases=[{train: head, epochs: 2, lr: 1e-3}, {train: stage7, epochs: 2, lr: 1e-3}]"


@pytest.mark.parametrize("fit", ["train", "trainval"])
def test_training_on_cifar100(fit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("cifar100", tmp_path, monkeypatch)
    run = Run(tmp_path / "run")
    keys = ["data.source=cifar100", "data.download=off", f"data.fit={fit}", f"data.root={made.folder}"]
    assert main(["train", "folder", *keys, f"run_dir={run.folder}", PHASES, *TINY]) == 0
    split = read_split(run.split, made.folder, run.classes.read_text().splitlines())
    assert split.classes == made.classes
    assert len(split.val) == 4 and len(split.test) == 8
    shared = set(split.train) & set(split.val)
    assert (len(split.train), len(shared)) == ((24, 4) if fit == "trainval" else (20, 0))
    assert len(split.part("all")) == 32
    log = run.log.read_text()
    assert log.count("images of about 32 px are enlarged to 64 px") == 1
    assert log.count("the last one counts as the best") == (fit == "trainval")
    assert len(run.predictions.read_text().splitlines()) == 1 + 8
    best, last = read_checkpoint(run.best), read_checkpoint(run.last)
    assert tuple(best["effnet_ft"]["model"]["classes"]) == made.classes
    if fit == "trainval":
        assert (best["effnet_ft"]["phase"], best["epoch"]) == (last["effnet_ft"]["phase"], last["epoch"]) == (1, 1)
    assert main(["evaluate", str(run.folder)]) == 0


# Harm


@pytest.mark.parametrize("file", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_pickle_of_another_hash_is_not_opened(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, mark = make("cifar10", tmp_path, monkeypatch), tmp_path / "mark"
    path = made.tree / "cifar-10-batches-py" / file
    path.write_bytes(pickle.dumps(Trap(mark)))
    assert f"{path} is cut short, damaged or another file" in refused("cifar10", made.tree)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the trap is none"


@pytest.mark.parametrize("member", ["../evil", "{tmp}/evil", "food-101/../../../evil", "food-101/link"])
def test_an_archive_cannot_write_outside_its_folder(
    member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make("food101", tmp_path, monkeypatch)
    archive = made.folder / "food-101.tar.gz"
    entry = tarfile.TarInfo(member.format(tmp=tmp_path))
    if member.endswith("link"):
        entry.type, entry.linkname = tarfile.SYMTYPE, str(tmp_path / "evil")
    with tarfile.open(archive, "w:gz") as file:
        file.addfile(entry)
    monkeypatch.setattr(datasets.Food101, "_MD5", md5(archive))  # as if its own makers meant harm
    assert f"cannot unpack {archive}" in refused("food101", made.folder)
    assert left_in(made.folder) == ["food-101.tar.gz"]
    assert not list(tmp_path.rglob("evil"))
