"""Published data sets, on small files of their exact formats: read, downloaded, damaged, missing; and trained on."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from published_files import MAKERS, Made, draw, make, md5
from scipy.io import savemat
from tiny import TINY
from torchvision import datasets

from effnet_ft.cli import main
from effnet_ft.data import published
from effnet_ft.data.imagenet import read_imagenet
from effnet_ft.data.images import read_image
from effnet_ft.data.published import PUBLISHED, read_published
from effnet_ft.data.sources import Source
from effnet_ft.data.split_file import read_split
from effnet_ft.errors import DataError, RecipeError
from effnet_ft.models.creation import imagenet_classes
from effnet_ft.recipe import load_recipe
from effnet_ft.results.run import Run, read_checkpoint

NAMES = tuple(PUBLISHED)
PACKED = tuple(name for name, entry in PUBLISHED.items() if entry.packed)
each_set = pytest.mark.parametrize("name", NAMES)


def pieces(name: str) -> tuple[published.Piece, ...]:
    return PUBLISHED[name].pieces(getattr(datasets, PUBLISHED[name].kind))


def check(source: Source, made: Made, root: Path) -> None:
    assert source.root == root
    assert source.classes == made.classes, "the official order, not the alphabet's"
    assert set(source.splits) == set(made.splits)
    for part, expected in made.splits.items():
        assert sorted((sample.path, sample.label) for sample in source.splits[part]) == sorted(expected), part
        assert all(source.image(sample).is_file() for sample in source.splits[part])


def refused(name: str, root: Path, download: bool = False) -> str:
    with pytest.raises(DataError) as error:
        read_published(name, root, download=download)
    return str(error.value)


def left_in(root: Path) -> list[str]:
    """Return what lies below ``root``, but for the empty files that processes lock."""
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(root).as_posix() for path in found)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


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


@pytest.mark.parametrize("name", PACKED)
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
    code = "import sys, effnet_ft.data.published; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
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
    assert ("data.download=on" in text) != PUBLISHED[name].gone
    for piece in pieces(name):
        assert piece.address in text and f"  {piece.file}, " in text
        assert not piece.folder or f"the folder {piece.folder}/" in text
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
        root = tmp_path / f"root-{piece.file}"
        shutil.copytree(made.folder, root)
        path = root / PUBLISHED[name].base / piece.file
        cut(path) if damage == "cut" else path.write_bytes(b"a page that asks to log in")
        text = refused(name, root, download=True)
        assert text.startswith(f"{path} is cut short, damaged or another file: its MD5 is {md5(path)}, not {piece.md5}")
        assert f"remove it and get it again from {piece.address}" in text
        assert not (path.parent / piece.folder).is_dir() or not piece.folder
        shutil.copy(made.folder / PUBLISHED[name].base / piece.file, path)
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


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PACKED])
def test_missing_images_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(name, tmp_path, monkeypatch)
    gone = made.splits["test"][1][0]
    (made.tree / gone).unlink()
    count = sum(map(len, made.splits.values()))
    text = refused(name, made.tree)
    assert f"1 of the {count} images of {PUBLISHED[name].title} are not in {made.tree}/" in text
    assert text.splitlines()[1].strip() == gone


# Downloading


@dataclass
class Site:
    """A server of one folder's files, by their names alone; ``cuts`` ends the next answers after so many bytes."""

    folder: Path
    address: str = ""
    cuts: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def __init__(self, *arguments: object, site: Site) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.site.asked.append(name)
        found = list(self.site.folder.rglob(name))
        if not found:
            return self.send_error(404)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        rest = found[0].read_bytes()[start:]
        if not rest:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.site.cuts.pop(0)] if self.site.cuts else rest)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(params=["cifar100", "flowers102"])
def name(request: pytest.FixtureRequest) -> str:
    """A set to download: an archive alone, or an archive and lists."""
    return request.param


@pytest.fixture
def made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return make(name, tmp_path, monkeypatch)


@pytest.fixture
def site(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on this machine, which torchvision's addresses lead to."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site(made.folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site=site)) as server:
        site.address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(datasets.CIFAR100, "url", f"{site.address}/~kriz/cifar-100-python.tar.gz")
        monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", f"{site.address}/data/flowers/102/")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def test_a_set_is_downloaded_once(site: Site, name: str, made: Made, tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    check(read_published(name, root), made, root)
    assert sorted(site.asked) == sorted(piece.file for piece in pieces(name))
    check(read_published(name, root), made, root)
    assert len(site.asked) == len(pieces(name))


def test_a_cut_download_is_taken_up_by_the_next_run(site: Site, name: str, made: Made, tmp_path: Path) -> None:
    site.cuts = [100, 50, 25]
    text = refused(name, tmp_path / "root", download=True)
    file = pieces(name)[0].file
    assert f"cannot download {PUBLISHED[name].title}: the connection was cut after 175 of" in text
    assert "Try again, or put into" in text and file in text
    assert site.asked == [file] * 3
    assert [Path(path).name for path in left_in(tmp_path / "root")] == [f"{file}.part"]
    check(read_published(name, tmp_path / "root"), made, tmp_path / "root")


def test_a_wrong_file_leaves_nothing(site: Site, name: str, made: Made, tmp_path: Path) -> None:
    piece = pieces(name)[-1]
    path = made.folder / PUBLISHED[name].base / piece.file
    right = path.read_bytes()
    path.write_bytes(b"a page that asks to log in")
    text = refused(name, tmp_path / "root", download=True)
    assert f"what {piece.address} sent is cut short, damaged or another file" in text
    assert piece.file not in {Path(path).name for path in left_in(tmp_path / "root")}
    assert not [path for path in left_in(tmp_path / "root") if path.endswith(".part")]
    path.write_bytes(right)
    check(read_published(name, tmp_path / "root"), made, tmp_path / "root")


def test_no_server(name: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets.CIFAR100, "url", "http://127.0.0.1:1/cifar-100-python.tar.gz")
    monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", "http://127.0.0.1:1/")
    text = refused(name, tmp_path / "root", download=True)
    assert "refused" in text
    assert all(piece.address in text for piece in pieces(name))
    assert left_in(tmp_path / "root") == []


# ImageNet to train on

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
    with pytest.raises(DataError, match=f"cannot unpack .*{file}.*\n.*Get what is damaged again"):
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
    with pytest.raises(DataError, match=f"1 classes of the validation images are not .*\n  {USED[0]}"):
        read_imagenet(tmp_path, WNIDS)
    (tmp_path / "train" / USED[1]).rename(tmp_path / "train" / "cat")
    with pytest.raises(DataError, match=r"1 class folders of .*train are not named by ImageNet's WordNet ids"):
        read_imagenet(tmp_path, WNIDS)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nowhere.JPEG 5\n", "1 of the 7 images of"),
        ("a.JPEG 1000\n", "line 7: 'a.JPEG 1000' is no path with a class number 0-999"),
        ("a.JPEG n1\n", "line 7: 'a.JPEG n1' is no path"),
        ("a.JPEG\n", "line 7: 'a.JPEG' is no path"),
    ],
)
def test_imagenets_lists_with_faults(line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists(tmp_path, monkeypatch)
    with (tmp_path / "train.txt").open("a") as file:
        file.write(line)
    with pytest.raises(DataError) as error:
        read_imagenet(tmp_path, WNIDS)
    assert told in str(error.value) and str(tmp_path / "train.txt") in str(error.value)


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
    assert log.count("the last one is kept as the best") == (fit == "trainval")
    assert len(run.predictions.read_text().splitlines()) == 1 + 8
    best, last = read_checkpoint(run.best), read_checkpoint(run.last)
    assert tuple(best["effnet_ft"]["model"]["classes"]) == made.classes
    if fit == "trainval":
        assert (best["effnet_ft"]["phase"], best["epoch"]) == (last["effnet_ft"]["phase"], last["epoch"]) == (1, 1)
    assert main(["evaluate", str(run.folder)]) == 0


def test_training_on_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat_val(tmp_path / "root", monkeypatch)
    run = Run(tmp_path / "run")
    keys = ["data.source=imagenet", f"data.root={tmp_path / 'root'}", f"run_dir={run.folder}"]
    assert main(["train", "folder", *keys, PHASES, *TINY]) == 0
    assert tuple(run.classes.read_text().splitlines()) == USED
    assert len(run.predictions.read_text().splitlines()) == 1 + len(VAL)


def test_what_needs_validation_images_is_refused_without() -> None:
    phases = "phases=[{train: head, epochs: 1, lr: auto}, {train: all, epochs: 1, lr: auto, patience: 2}]"
    with pytest.raises(RecipeError) as error:
        load_recipe("folder", [phases, "data.fit=trainval", "data.source=cifar"])
    faults = "\n".join(error.value.faults)
    assert len(error.value.faults) == 3
    assert "data.source is 'cifar', expected one of" in faults and "did you mean 'cifar10" in faults
    assert "trainer.patience=off" in faults and "search the head's lr" in faults


# Harm


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


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


def test_imagenets_archives_cannot_write_outside_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives(tmp_path / "root", monkeypatch)
    archive = tmp_path / "root" / "ILSVRC2012_img_val.tar"
    with tarfile.open(archive, "a") as file:
        file.addfile(tarfile.TarInfo("../../evil"))
    monkeypatch.setitem(datasets.imagenet.ARCHIVE_META, "val", (archive.name, md5(archive)))
    with pytest.raises(DataError, match=f"cannot unpack .*{archive.name}"):
        read_imagenet(tmp_path / "root", WNIDS)
    assert not list(tmp_path.rglob("evil")) and not list((tmp_path / "root").glob(".*.part"))
