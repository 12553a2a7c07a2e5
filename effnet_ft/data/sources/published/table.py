"""The published data sets and their files; torchvision reads them. Free of torch, as the recipe schema imports it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AIRCRAFT_MD5 = "d4acdd33327262359767eeaa97a4f732"
"""MD5 of the archive, from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/; torchvision has none."""

CARS = "https://ai.stanford.edu/~jkrause/"
CARS_FILES = (
    ("cars/car_devkit.tgz", "c3b158d763b6e2245038c8ad08e45376", "devkit"),
    ("car196/cars_train.tgz", "065e5b463ae28d29e77c1b4b166cfe61", "cars_train"),
    ("car196/cars_test.tgz", "4ce7ebf6a94d07f1952d94dd34c4d501", "cars_test"),
    ("car196/cars_test_annos_withlabels.mat", "b0a2b23655a3edd16d84508592a98d10", ""),
)
"""Address below :data:`CARS`, MD5 from torchvision 0.15, the last release that downloaded them, and folder."""


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
    files: Callable[[Any], Iterable[RemoteFile]]  # given the reader
    splits: Mapping[str, Mapping[str, Any]]  # the reader's arguments for each split
    images: Callable[[Any], Iterable[tuple[Any, int]]] = lambda data: zip(data._image_files, data._labels, strict=True)
    """Files, or pixels if ``pickled``, with class numbers, given the reader's data set."""
    pickled: bool = False  # its images are pickled, not files
    offline: bool = False  # it can no longer be downloaded


def _cifar(title: str, reader: str) -> PublishedSet:
    def files(reader: Any) -> list[RemoteFile]:
        contents = {**dict(reader.train_list), **dict(reader.test_list), reader.meta["filename"]: reader.meta["md5"]}
        return [RemoteFile(reader.url, reader.tgz_md5, reader.base_folder, contents)]

    splits = {"train": {"train": True}, "test": {"train": False}}
    return PublishedSet(title, reader, "", files, splits, lambda data: zip(data.data, data.targets, strict=True), True)


def _flowers(reader: Any) -> list[RemoteFile]:
    files = reader._file_dict.items()
    return [
        RemoteFile(reader._download_url_prefix + name, md5, "jpg" * (kind == "image")) for kind, (name, md5) in files
    ]


def _splits(*names: str) -> dict[str, dict[str, str]]:
    return {name: {"split": name} for name in names}


PUBLISHED: dict[str, PublishedSet] = {
    "cifar10": _cifar("CIFAR-10", "CIFAR10"),
    "cifar100": _cifar("CIFAR-100", "CIFAR100"),
    "flowers102": PublishedSet(
        *("Oxford Flowers-102", "Flowers102", "flowers-102"), _flowers, _splits("train", "val", "test")
    ),
    "food101": PublishedSet(
        *("Food-101", "Food101", ""),
        lambda reader: [RemoteFile(reader._URL, reader._MD5, "food-101")],
        _splits("train", "test"),
    ),
    "pets": PublishedSet(
        *("Oxford-IIIT Pets", "OxfordIIITPet", "oxford-iiit-pet"),
        lambda reader: [RemoteFile(url, md5, Path(url).name.removesuffix(".tar.gz")) for url, md5 in reader._RESOURCES],
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        lambda data: zip(data._images, data._labels, strict=True),
    ),
    "aircraft": PublishedSet(
        *("FGVC-Aircraft", "FGVCAircraft", ""),
        lambda reader: [RemoteFile(reader._URL, AIRCRAFT_MD5, "fgvc-aircraft-2013b")],
        _splits("train", "val", "test"),
    ),
    "cars": PublishedSet(
        *("Stanford Cars", "StanfordCars", "stanford_cars"),
        lambda reader: [RemoteFile(CARS + name, md5, folder) for name, md5, folder in CARS_FILES],
        _splits("train", "test"),
        lambda data: data._samples,
        offline=True,
    ),
}
"""The published sets by the name that ``data.source`` takes."""
