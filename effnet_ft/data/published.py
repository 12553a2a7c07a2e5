"""Published data sets: their files are downloaded, checked and listed with torchvision's own readers.

Every set becomes a :class:`~effnet_ft.data.sources.Source` with its official classes, their official order and its
official splits. CIFAR's pickles are unpacked once, without loss, into PNG files, so that it is files like the rest.

Birdsnap has no reader, for its images are addresses all over the net: sort what could be had into class folders below
``train/`` and ``test/`` and take ``source: folder``.

Free of torch until a set is read: the recipe takes its names from here.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from effnet_ft.data.sources import Sample, Source
from effnet_ft.errors import DataError, listing
from effnet_ft.fetching import download as fetch

log = logging.getLogger(__name__)

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
class Piece:
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
    pieces: Callable[[Any], tuple[Piece, ...]]
    splits: Mapping[str, Mapping[str, Any]]
    listed: Callable[[Any], tuple[Sequence[Any], Sequence[int]]]
    packed: bool = False
    gone: bool = False


def read_published(name: str, root: str | Path, *, download: bool = True) -> Source:
    """Return a published set, after its files were downloaded, checked and unpacked where they are not yet.

    Args:
        name: in :data:`PUBLISHED`.
        root: the folder that the set lies in or is put into.
        download: get what is not there.

    Returns:
        The images by ``train``, ``test`` and, where the set has it, ``val``; the classes in the official order.

    Raises:
        DataError: where files are missing and cannot be had, with what to put where; where one is damaged.
    """
    published, root = PUBLISHED[name], Path(root).expanduser()
    pictures = root / f"{name}-png"
    if published.packed and pictures.is_dir():
        return _read_pictures(published, pictures)
    if root.exists() and not root.is_dir():
        raise DataError(f"data.root is '{root}', which is a file: name the folder that {published.title} is put into")
    from torchvision import datasets

    kind = getattr(datasets, published.kind)
    base, pieces = root / published.base, published.pieces(kind)
    if not all(piece.lies_in(base) for piece in pieces):
        _provide(published, base, pieces, download)
    _check(published, base, pieces)
    parts = _parse(published, kind, root)
    if published.packed:
        with _alone(base, name):
            if not pictures.is_dir():  # another process may have written them meanwhile
                _write_pictures(published, parts, pictures)
        return _read_pictures(published, pictures)
    splits, classes = {}, tuple(parts["train"].classes)
    for part, dataset in parts.items():
        files, numbers = published.listed(dataset)
        paths = [Path(file).relative_to(root).as_posix() for file in files]
        splits[part] = [Sample(path, classes[number]) for path, number in zip(paths, numbers, strict=True)]
    source = Source(root, classes, splits)
    _require_images(published, source)
    return source


def _provide(published: PublishedSet, base: Path, pieces: Sequence[Piece], download: bool) -> None:
    """Download and unpack what is not there."""
    away = [piece for piece in pieces if not piece.lies_in(base) and not (base / piece.file).is_file()]
    if away and published.gone:
        raise DataError(f"{published.title} can no longer be downloaded: {_wanted(base, away, 'it came from')}")
    if away and not download:
        why = f"{published.title} is not whole in {base} and data.download is off: set data.download=on, or "
        raise DataError(why + _wanted(base, away))
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _alone(base, published.kind):
            for piece in away:
                if not piece.lies_in(base) and not (base / piece.file).is_file():
                    log.info("%s: downloading %s", published.title, piece.address)
                    _download(piece, base)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        raise DataError(f"cannot download {published.title}: {error}\nTry again, or {_wanted(base, away)}") from error
    with _alone(base, published.kind):
        for piece in pieces:
            if not piece.lies_in(base):
                log.info("%s: checking and unpacking %s", published.title, piece.file)
                _unpack(piece, base)


@contextmanager
def _alone(base: Path, name: str) -> Iterator[None]:
    """Hold a lock, for processes that begin together: one of them does the work and the others find it done."""
    from filelock import FileLock

    lock = FileLock(base / f".{name}.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise DataError(f"cannot write to {base}: {error}") from error
    try:
        yield
    finally:
        lock.release()


def _wanted(base: Path, pieces: Sequence[Piece], origin: str = "from") -> str:
    lines = [
        f"{piece.file}, {origin} {piece.address}"
        + (f" (or the folder {piece.folder}/ that it unpacks to)" if piece.folder else "")
        for piece in pieces
    ]
    return f"put into {base}\n{listing(lines)}"


def _download(piece: Piece, base: Path) -> None:
    """Download ``piece``; under its own name it appears whole and right or not at all."""
    part = base / f"{piece.file}.part"
    fetch(piece.address, part, piece.file)
    if fault := _fault(part, piece.md5):
        part.unlink()  # else the next attempt would take up what is wrong already
        raise ValueError(f"what {piece.address} sent {fault}")
    os.replace(part, base / piece.file)


def _fault(path: Path, md5: str) -> str:
    """Return what is wrong with a file, an empty text where nothing is."""
    from torchvision.datasets.utils import calculate_md5

    if not path.is_file():
        return "is missing"
    found = calculate_md5(path)
    return "" if found == md5 else f"is cut short, damaged or another file: its MD5 is {found}, not {md5}"


def _unpack(piece: Piece, base: Path) -> None:
    """Unpack an archive; its folder appears whole or not at all."""
    archive, temporary = base / piece.file, base / f".{piece.folder}.part"
    if fault := _fault(archive, piece.md5):
        raise DataError(f"{archive} {fault}; remove it and get it again from {piece.address}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.unpack_archive(archive, temporary, filter="data")  # nothing outside of it, no devices, no odd rights
        os.replace(temporary / piece.folder, base / piece.folder)
    except Exception as error:  # tarfile, gzip and zlib raise many kinds
        raise DataError(f"cannot unpack {archive} into {base}: {error or type(error).__name__}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(published: PublishedSet, base: Path, pieces: Sequence[Piece]) -> None:
    """Refuse files whose hashes are known and others."""
    for piece in pieces:
        if not piece.folder and (fault := _fault(base / piece.file, piece.md5)):
            raise DataError(f"{base / piece.file} {fault}; remove it and get it again from {piece.address}")
        for name, md5 in (piece.holds or {}).items():
            if fault := _fault(base / piece.folder / name, md5):
                raise DataError(f"{base / piece.folder / name} {fault}; {_unpack_again(base, piece)}")


def _unpack_again(base: Path, piece: Piece) -> str:
    return f"remove the folder {base / piece.folder}, so that {piece.file} is unpacked again"


def _parse(published: PublishedSet, kind: Any, root: Path) -> dict[str, Any]:
    """Return torchvision's object of every part."""
    try:
        return {part: kind(str(root), **choice) for part, choice in published.splits.items()}
    except Exception as error:  # json, scipy, pickle and torchvision's own: each set has lists of another kind
        folders = " and ".join(f"{piece.folder}/" for piece in published.pieces(kind) if piece.folder)
        raise DataError(
            f"cannot read the lists of {published.title} in {root / published.base}: "
            f"{error or type(error).__name__}; remove {folders} there, so that they are unpacked again"
        ) from error


def _require_images(published: PublishedSet, source: Source) -> None:
    paths = [sample.path for sample in source.part("all")]
    # Folders are listed, for to ask for a hundred thousand files one by one takes long on a network's disk.
    folders = {path.rpartition("/")[0] for path in paths}
    places = {folder: source.root / folder for folder in folders}
    present = {folder: set(os.listdir(place)) if place.is_dir() else set() for folder, place in places.items()}
    if gone := [path for path in paths if path.rpartition("/")[2] not in present[path.rpartition("/")[0]]]:
        folder = source.root / os.path.commonpath(folders)
        raise DataError(
            f"{len(gone)} of the {len(paths)} images of {published.title} are not in {folder}: "
            f"remove what is there and get the set again\n{listing(gone, 3)}"
        )


def _write_pictures(published: PublishedSet, parts: Mapping[str, Any], folder: Path) -> None:
    """Write pixels as PNG files in a folder for each class, numbered in the set's own order from 1."""
    from PIL import Image
    from tqdm import tqdm

    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    log.info("%s: unpacking its images into %s", published.title, folder)
    try:
        for part, dataset in parts.items():
            for name in dataset.classes:
                (temporary / part / name).mkdir(parents=True)
            pairs = enumerate(zip(*published.listed(dataset), strict=True), 1)
            bar = {"desc": f"unpacking {part}", "total": len(dataset), "unit": "", "leave": False, "disable": None}
            for number, (pixels, label) in tqdm(pairs, delay=2, **bar):
                Image.fromarray(pixels).save(temporary / part / dataset.classes[label] / f"{number:05}.png")
        lines = "".join(f"{name}\n" for name in parts["train"].classes)
        (temporary / "classes.txt").write_text(lines, encoding="utf-8")
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError(f"cannot unpack the images of {published.title} into {folder}: {error}") from error


def _read_pictures(published: PublishedSet, folder: Path) -> Source:
    splits: dict[str, list[Sample]] = {}
    try:
        classes = tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
        for part in published.splits:
            splits[part] = [
                Sample(f"{folder.name}/{part}/{name}/{file}", name)
                for name in classes
                for file in sorted(os.listdir(folder / part / name))
            ]
    except OSError as error:
        raise DataError(
            f"cannot list the images of {published.title}: {error}; "
            f"remove the folder {folder}, so that it is written again"
        ) from error
    return Source(folder.parent, classes, splits)


def _cifar(kind: Any) -> tuple[Piece, ...]:
    holds = {**dict(kind.train_list), **dict(kind.test_list), kind.meta["filename"]: kind.meta["md5"]}
    return (Piece(kind.url, kind.tgz_md5, kind.base_folder, holds),)


def _flowers(kind: Any) -> tuple[Piece, ...]:
    folders = {"image": "jpg"}
    return tuple(
        Piece(kind._download_url_prefix + file, md5, folders.get(what, ""))
        for what, (file, md5) in kind._file_dict.items()
    )


def _food(kind: Any) -> tuple[Piece, ...]:
    return (Piece(kind._URL, kind._MD5, "food-101"),)


def _pets(kind: Any) -> tuple[Piece, ...]:
    return tuple(Piece(url, md5, url.rsplit("/", 1)[-1].removesuffix(".tar.gz")) for url, md5 in kind._RESOURCES)


def _aircraft(kind: Any) -> tuple[Piece, ...]:
    return (Piece(kind._URL, AIRCRAFT_MD5, "fgvc-aircraft-2013b"),)


def _cars(kind: Any) -> tuple[Piece, ...]:
    folders = {
        "cars/car_devkit.tgz": "devkit",
        "car196/cars_train.tgz": "cars_train",
        "car196/cars_test.tgz": "cars_test",
    }
    return tuple(Piece(CARS + file, md5, folders.get(file, "")) for file, md5 in CARS_MD5.items())


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
