"""The published data sets that are known, with the files that each comes in; torchvision reads them.

Free of torch: the recipe takes its names from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AIRCRAFT_MD5 = "d4acdd33327262359767eeaa97a4f732"
"""Of the archive, from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/; torchvision checks none."""

CARS = "https://ai.stanford.edu/~jkrause/"
CARS_MD5 = {
    "cars/car_devkit.tgz": "c3b158d763b6e2245038c8ad08e45376",
    "car196/cars_train.tgz": "065e5b463ae28d29e77c1b4b166cfe61",
    "car196/cars_test.tgz": "4ce7ebf6a94d07f1952d94dd34c4d501",
    "car196/cars_test_annos_withlabels.mat": "b0a2b23655a3edd16d84508592a98d10",
}
"""Of the files below :data:`CARS`, from torchvision 0.15, the last release that downloaded them."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that a published set comes in.

    Attributes:
        address: where it comes from; its last part is the file's name.
        md5: of the file.
        folder: what it unpacks to, beside it; empty for a file that is used as it is.
        holds: MD5 of files in the folder by their names, where they are known.
    """

    address: str
    md5: str
    folder: str = ""
    holds: Mapping[str, str] | None = None

    @property
    def file(self) -> str:
        """The file's name."""
        return self.address.rsplit("/", 1)[-1]

    def lies_in(self, base: Path) -> bool:
        """Return whether it is there as it is used: unpacked, where it is an archive."""
        return (base / self.folder).is_dir() if self.folder else (base / self.file).is_file()


@dataclass(frozen=True)
class PublishedSet:
    """A data set that torchvision knows.

    Attributes:
        title: as its authors write it.
        kind: the class in ``torchvision.datasets``.
        base: the folder below the root that its pieces lie in; empty for the root itself.
        pieces: returns them, given torchvision's class.
        splits: the argument of torchvision's class for each part.
        listed: returns the images, files or pixels, and their class numbers, given torchvision's object.
        packed: its images are no files.
        gone: it can no longer be downloaded.
    """

    title: str
    kind: str
    base: str
    pieces: Callable[[Any], tuple[RemoteFile, ...]]
    splits: Mapping[str, Mapping[str, Any]]
    listed: Callable[[Any], tuple[Sequence[Any], Sequence[int]]]
    packed: bool = False
    gone: bool = False


def _cifar(kind: Any) -> tuple[RemoteFile, ...]:
    holds = {**dict(kind.train_list), **dict(kind.test_list), kind.meta["filename"]: kind.meta["md5"]}
    return (RemoteFile(kind.url, kind.tgz_md5, kind.base_folder, holds),)


def _flowers(kind: Any) -> tuple[RemoteFile, ...]:
    folders = {"image": "jpg"}
    return tuple(
        RemoteFile(kind._download_url_prefix + file, md5, folders.get(what, ""))
        for what, (file, md5) in kind._file_dict.items()
    )


def _food(kind: Any) -> tuple[RemoteFile, ...]:
    return (RemoteFile(kind._URL, kind._MD5, "food-101"),)


def _pets(kind: Any) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(url, md5, url.rsplit("/", 1)[-1].removesuffix(".tar.gz")) for url, md5 in kind._RESOURCES)


def _aircraft(kind: Any) -> tuple[RemoteFile, ...]:
    return (RemoteFile(kind._URL, AIRCRAFT_MD5, "fgvc-aircraft-2013b"),)


def _cars(kind: Any) -> tuple[RemoteFile, ...]:
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
        "CIFAR-10", "CIFAR10", "", _cifar, _CIFAR, lambda found: (found.data, found.targets), packed=True
    ),
    "cifar100": PublishedSet(
        "CIFAR-100", "CIFAR100", "", _cifar, _CIFAR, lambda found: (found.data, found.targets), packed=True
    ),
    "flowers102": PublishedSet(
        *("Oxford Flowers-102", "Flowers102", "flowers-102", _flowers, _THREE),
        listed=lambda found: (found._image_files, found._labels),
    ),
    "food101": PublishedSet("Food-101", "Food101", "", _food, _TWO, lambda found: (found._image_files, found._labels)),
    "pets": PublishedSet(
        *("Oxford-IIIT Pets", "OxfordIIITPet", "oxford-iiit-pet", _pets),
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        lambda found: (found._images, found._labels),
    ),
    "aircraft": PublishedSet(
        "FGVC-Aircraft", "FGVCAircraft", "", _aircraft, _THREE, lambda found: (found._image_files, found._labels)
    ),
    "cars": PublishedSet(
        *("Stanford Cars", "StanfordCars", "stanford_cars", _cars, _TWO),
        listed=lambda found: ([path for path, _ in found._samples], [label for _, label in found._samples]),
        gone=True,
    ),
}
"""The published sets by the name that ``data.source`` takes."""
