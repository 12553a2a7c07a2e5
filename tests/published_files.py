"""Small data sets in the exact files of the published ones, their hashes put into torchvision's readers."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from effnet_ft.data.sources.published import read_published, table
from effnet_ft.data.sources.published.table import PUBLISHED, RemoteFile
from effnet_ft.data.sources.source import Source
from effnet_ft.errors import DataError

Labelled = list[tuple[str, str]]
"""Paths relative to the root, and labels."""


@dataclass
class Made:
    """A set as it is published, and what a reader must make of it.

    Attributes:
        folder: holds the files as they are offered: archives and lists.
        tree: holds them unpacked.
        classes: in the official order, which is not the alphabet's.
        splits: the images, in any order.
        pixels: of images that are packed, by path.
    """

    folder: Path
    tree: Path
    classes: tuple[str, ...]
    splits: dict[str, Labelled]
    pixels: dict[str, np.ndarray] = field(default_factory=dict)


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pack(made: Made, folder: str, archive: str, base: str = "") -> Path:
    """Pack ``folder`` of the tree into an archive; both lie in ``base``."""
    path = made.folder / base / archive
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as file:
        file.add(made.tree / base / folder, folder)
    return path


def cifar(name: str, counts: dict[str, int]) -> Callable[[Made, pytest.MonkeyPatch], None]:
    """Return what makes CIFAR's pickles: with ``counts`` images in each file, the last file for the test."""

    def make(made: Made, patch: pytest.MonkeyPatch) -> None:
        kind = getattr(datasets, PUBLISHED[name].reader)
        fine = name == "cifar100"
        made.classes = ("whale", "apple", "cat", "aquarium_fish")
        base, random = made.tree / kind.base_folder, np.random.default_rng(0)
        base.mkdir(parents=True)
        seen = {"train": 0, "test": 0}
        hashes = {}
        for batch, (file, count) in enumerate(counts.items(), 1):
            part = "test" if "test" in file else "train"
            pixels = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
            labels = [number % len(made.classes) for number in range(count)]
            entry = {
                "batch_label": f"batch {batch}",
                "fine_labels" if fine else "labels": labels,
                "data": pixels.transpose(0, 3, 1, 2).reshape(count, -1),
                "filenames": [f"{number}.png" for number in range(count)],
                **({"coarse_labels": [0] * count} if fine else {}),
            }
            (base / file).write_bytes(pickle.dumps(entry, 2))
            hashes[file] = md5(base / file)
            for image, label in zip(pixels, labels, strict=True):
                seen[part] += 1
                path = f"{name}-png/{part}/{made.classes[label]}/{seen[part]:05}.png"
                made.splits.setdefault(part, []).append((path, made.classes[label]))
                made.pixels[path] = image
        meta = {kind.meta["key"]: list(made.classes), **({"coarse_label_names": ["all"]} if fine else {})}
        (base / kind.meta["filename"]).write_bytes(pickle.dumps(meta, 2))
        patch.setattr(kind, "tgz_md5", md5(pack(made, kind.base_folder, kind.filename)))
        patch.setattr(kind, "train_list", [[file, hash_] for file, hash_ in hashes.items() if "test" not in file])
        patch.setattr(kind, "test_list", [[file, hash_] for file, hash_ in hashes.items() if "test" in file])
        patch.setattr(kind, "meta", {**kind.meta, "md5": md5(base / kind.meta["filename"])})

    return make


def flowers(made: Made, patch: pytest.MonkeyPatch) -> None:
    kind, base = datasets.Flowers102, made.tree / "flowers-102"
    made.classes = tuple(kind.classes)
    labels = [102, 1, 60, 1, 102, 60, 2, 2, 60]
    ids = {"train": [9, 2, 8], "val": [1, 4], "test": [3, 5, 6, 7]}
    for number in range(1, 10):
        draw(base / "jpg" / f"image_{number:05}.jpg", number)
    savemat(base / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    names = {"train": "trnid", "val": "valid", "test": "tstid"}
    savemat(base / "setid.mat", {names[part]: np.array([numbers], np.uint16) for part, numbers in ids.items()})
    made.splits = {
        part: [(f"flowers-102/jpg/image_{number:05}.jpg", kind.classes[labels[number - 1] - 1]) for number in numbers]
        for part, numbers in ids.items()
    }
    offered = pack(made, "jpg", "102flowers.tgz", "flowers-102").parent
    for file in ("imagelabels.mat", "setid.mat"):
        shutil.copy(base / file, offered)
    files = {what: (file, md5(offered / file)) for what, (file, _) in kind._file_dict.items()}
    patch.setattr(kind, "_file_dict", files)


def food(made: Made, patch: pytest.MonkeyPatch) -> None:
    made.classes = ("apple_pie", "waffles")
    listed = {"train": {"waffles": [11, 3], "apple_pie": [5]}, "test": {"waffles": [2], "apple_pie": [7, 6]}}
    base = made.tree / "food-101"
    (base / "meta").mkdir(parents=True)
    for part, names in listed.items():
        entries = {name: [f"{name}/{number}" for number in numbers] for name, numbers in names.items()}
        (base / "meta" / f"{part}.json").write_text(json.dumps(entries))
        pairs = [(f"images/{path}.jpg", name) for name, paths in entries.items() for path in paths]
        for number, (path, _) in enumerate(pairs):
            draw(base / path, number)
        made.splits[part] = [(f"food-101/{path}", name) for path, name in pairs]
    patch.setattr(datasets.Food101, "_MD5", md5(pack(made, "food-101", "food-101.tar.gz")))


def pets(made: Made, patch: pytest.MonkeyPatch) -> None:
    made.classes = ("Abyssinian", "American Bulldog", "Bengal")
    numbers = {"Abyssinian": 1, "american_bulldog": 2, "Bengal": 3}
    names = dict(zip(numbers, made.classes, strict=True))
    listed = {"trainval": [("Bengal", 7), ("american_bulldog", 10), ("Abyssinian", 1)], "test": []}
    listed["test"] = [("american_bulldog", 2), ("Abyssinian", 9), ("Bengal", 4), ("Bengal", 5)]
    kind, base = datasets.OxfordIIITPet, made.tree / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for part, entries in listed.items():
        lines = (f"{name}_{number} {numbers[name]} 1 1\n" for name, number in entries)
        (base / "annotations" / f"{part}.txt").write_text("".join(lines))
        pairs = [(f"oxford-iiit-pet/images/{name}_{number}.jpg", names[name]) for name, number in entries]
        made.splits["train" if part == "trainval" else part] = pairs
        for number, (path, _) in enumerate(pairs):
            draw(made.tree / path, number)
    hashes = {name: md5(pack(made, name, f"{name}.tar.gz", base.name)) for name in ("images", "annotations")}
    resources = tuple((url, hashes[Path(url).name.removesuffix(".tar.gz")]) for url, _ in kind._RESOURCES)
    patch.setattr(kind, "_RESOURCES", resources)


def aircraft(made: Made, patch: pytest.MonkeyPatch) -> None:
    made.classes = ("707-320", "Tu-154", "BAE 146-200")
    base = made.tree / "fgvc-aircraft-2013b" / "data"
    base.mkdir(parents=True)
    (base / "variants.txt").write_text("".join(f"{name}\n" for name in made.classes))
    number = 1_025_793
    for part in ("train", "val", "test"):
        lines = []
        for name in (*made.classes, "Tu-154"):
            number += 1
            draw(base / "images" / f"{number:07}.jpg", number)
            lines.append(f"{number:07} {name}\n")
            made.splits.setdefault(part, []).append((f"fgvc-aircraft-2013b/data/images/{number:07}.jpg", name))
        (base / f"images_variant_{part}.txt").write_text("".join(lines))
    archive = pack(made, "fgvc-aircraft-2013b", "fgvc-aircraft-2013b.tar.gz")
    patch.setattr(table, "AIRCRAFT_MD5", md5(archive))


def cars(made: Made, patch: pytest.MonkeyPatch) -> None:
    made.classes = ("Ram C/V Cargo Van Minivan 2012", "AM General Hummer SUV 2000", "Acura RL Sedan 2012")
    base = made.tree / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    names = np.empty((1, 3), object)
    names[0] = list(made.classes)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    numbers = {"train": [3, 1, 2, 2], "test": [2, 1, 3]}
    places = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for part, labels in numbers.items():
        rows = [(39, 116, 569, 375, label, f"{number:05}.jpg") for number, label in enumerate(labels, 1)]
        columns = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
        records = np.array([tuple(rows[0])] * len(rows), [(column, object) for column in columns])
        for index, row in enumerate(rows):
            records[index] = row
        savemat(base / places[part], {"annotations": records[None]})
        for number, label in enumerate(labels, 1):
            path = f"stanford_cars/cars_{part}/{number:05}.jpg"
            draw(made.tree / path, number)
            made.splits.setdefault(part, []).append((path, made.classes[label - 1]))
    for archive, name in {"car_devkit": "devkit", "cars_train": "cars_train", "cars_test": "cars_test"}.items():
        offered = pack(made, name, f"{archive}.tgz", "stanford_cars").parent
    shutil.copy(base / places["test"], offered)
    files = [(address, md5(offered / Path(address).name), folder) for address, _, folder in table.CARS_FILES]
    patch.setattr(table, "CARS_FILES", files)


MAKERS: dict[str, Callable[[Made, pytest.MonkeyPatch], None]] = {
    "cifar10": cifar("cifar10", {**{f"data_batch_{number}": 4 for number in range(1, 6)}, "test_batch": 4}),
    "cifar100": cifar("cifar100", {"train": 24, "test": 8}),
    "flowers102": flowers,
    "food101": food,
    "pets": pets,
    "aircraft": aircraft,
    "cars": cars,
}


def make(name: str, place: Path, patch: pytest.MonkeyPatch) -> Made:
    """Write the set ``name`` below ``place`` and make torchvision's reader expect its hashes."""
    made = Made(place / "offered", place / "unpacked", (), {})
    made.folder.mkdir(parents=True)
    MAKERS[name](made, patch)
    return made


def pieces(name: str) -> tuple[RemoteFile, ...]:
    return tuple(PUBLISHED[name].files(getattr(datasets, PUBLISHED[name].reader)))


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
