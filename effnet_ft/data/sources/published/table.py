"""The published data sets and their files; torchvision reads them. Free of torch, as the recipe schema imports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AIRCRAFT_MD5 = "d4acdd33327262359767eeaa97a4f732"
"""MD5 of the archive, from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/; torchvision has none."""

CARS = "https://ai.stanford.edu/~jkrause/"
CARS_MD5 = {
    "cars/car_devkit.tgz": "c3b158d763b6e2245038c8ad08e45376",
    "car196/cars_train.tgz": "065e5b463ae28d29e77c1b4b166cfe61",
    "car196/cars_test.tgz": "4ce7ebf6a94d07f1952d94dd34c4d501",
    "car196/cars_test_annos_withlabels.mat": "b0a2b23655a3edd16d84508592a98d10",
}
"""MD5 of the files below :data:`CARS`, from torchvision 0.15, the last release that downloaded them."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a published set."""

    url: str  # its address, ending in the file's name
    md5: str
    folder: str = ""  # that it unpacks to; empty if it is not an archive
    contents: Mapping[str, str] | None = None  # MD5 of files in the folder by name, if known

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]

    def is_ready(self, base: Path) -> bool:
        """Return whether it is in ``base``, unpacked if it is an archive."""
        return (base / self.folder).is_dir() if self.folder else (base / self.name).is_file()


@dataclass(frozen=True)
class PublishedSet:
    """A data set that torchvision reads."""

    title: str  # as its authors write it
    reader: str  # the class in `torchvision.datasets`
    base: str  # the folder of its files, relative to the root
    files: Callable[[Any], tuple[RemoteFile, ...]]  # returns them, given the reader
    splits: Mapping[str, Mapping[str, Any]]  # the reader's arguments for each split
    images_and_labels: Callable[[Any], tuple[Sequence[Any], Sequence[int]]]  # of the reader's data set; files or pixels
    pickled: bool = False  # its images are pickled, not files
    offline: bool = False  # it can no longer be downloaded


def _cifar(reader: Any) -> tuple[RemoteFile, ...]:
    contents = {**dict(reader.train_list), **dict(reader.test_list), reader.meta["filename"]: reader.meta["md5"]}
    return (RemoteFile(reader.url, reader.tgz_md5, reader.base_folder, contents),)


def _flowers(reader: Any) -> tuple[RemoteFile, ...]:
    folders = {"image": "jpg"}
    return tuple(
        RemoteFile(reader._download_url_prefix + name, md5, folders.get(kind, ""))
        for kind, (name, md5) in reader._file_dict.items()
    )


def _food(reader: Any) -> tuple[RemoteFile, ...]:
    return (RemoteFile(reader._URL, reader._MD5, "food-101"),)


def _pets(reader: Any) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(url, md5, url.rsplit("/", 1)[-1].removesuffix(".tar.gz")) for url, md5 in reader._RESOURCES)


def _aircraft(reader: Any) -> tuple[RemoteFile, ...]:
    return (RemoteFile(reader._URL, AIRCRAFT_MD5, "fgvc-aircraft-2013b"),)


def _cars(reader: Any) -> tuple[RemoteFile, ...]:
    folders = {
        "cars/car_devkit.tgz": "devkit",
        "car196/cars_train.tgz": "cars_train",
        "car196/cars_test.tgz": "cars_test",
    }
    return tuple(RemoteFile(CARS + file, md5, folders.get(file, "")) for file, md5 in CARS_MD5.items())


_CIFAR: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_TWO: Mapping[str, Mapping[str, Any]] = {part: {"split": part} for part in ("train", "test")}
_THREE: Mapping[str, Mapping[str, Any]] = {part: {"split": part} for part in ("train", "val", "test")}

PUBLISHED: dict[str, PublishedSet] = {
    "cifar10": PublishedSet(
        "CIFAR-10", "CIFAR10", "", _cifar, _CIFAR, lambda dataset: (dataset.data, dataset.targets), pickled=True
    ),
    "cifar100": PublishedSet(
        "CIFAR-100", "CIFAR100", "", _cifar, _CIFAR, lambda dataset: (dataset.data, dataset.targets), pickled=True
    ),
    "flowers102": PublishedSet(
        *("Oxford Flowers-102", "Flowers102", "flowers-102", _flowers, _THREE),
        images_and_labels=lambda dataset: (dataset._image_files, dataset._labels),
    ),
    "food101": PublishedSet(
        "Food-101", "Food101", "", _food, _TWO, lambda dataset: (dataset._image_files, dataset._labels)
    ),
    "pets": PublishedSet(
        *("Oxford-IIIT Pets", "OxfordIIITPet", "oxford-iiit-pet", _pets),
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        lambda dataset: (dataset._images, dataset._labels),
    ),
    "aircraft": PublishedSet(
        *("FGVC-Aircraft", "FGVCAircraft", "", _aircraft, _THREE),
        images_and_labels=lambda dataset: (dataset._image_files, dataset._labels),
    ),
    "cars": PublishedSet(
        *("Stanford Cars", "StanfordCars", "stanford_cars", _cars, _TWO),
        images_and_labels=lambda dataset: ([path for path, _ in dataset._samples], [n for _, n in dataset._samples]),
        offline=True,
    ),
}
"""The published sets by the name that ``data.source`` takes."""
