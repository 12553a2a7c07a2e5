"""Finds labelled images on disk. A source lists them; it neither splits nor reads them."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from effnet_ft.data.images.decoding import SUFFIXES, ArchiveMember
from effnet_ft.errors import DataError
from effnet_ft.utils.text import listing

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""What folders and manifests call the splits, in lower case."""

CAMERA_SUFFIXES = (".heic", ".heif", ".avif", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2", ".jxl")
"""Endings, in lower case, of photographs that are not read: telephones' and cameras' own formats."""

LABEL_SEPARATOR = "|"
"""Stands between the labels of an image that has several."""


@dataclass(frozen=True)
class Sample:
    """An image file and its class.

    Attributes:
        path: relative to the source's root, with forward slashes.
        label: the class's name; of a source with several labels an image their names, joined by
            :data:`LABEL_SEPARATOR`, empty where no label holds.
        group: images of one group, say of one patient, are never divided between training and validation or test;
            empty where the image stands for itself.
    """

    path: str
    label: str
    group: str = ""


@dataclass(frozen=True)
class Source:
    """Labelled images as they lie on disk.

    Attributes:
        root: the folder that all paths are relative to.
        classes: names, sorted.
        splits: samples by ``train``, ``val`` and ``test`` where folders give the split; by ``all`` where none does.
        ignored: files that are no images by their ending or lie outside the class folders, relative to the root.
        members: images of an archive by path; empty where images are files in the root.
        multilabel: an image has any number of labels, not one class.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, list[Sample]]
    ignored: list[str] = field(default_factory=list)
    members: dict[str, ArchiveMember] = field(default_factory=dict)
    multilabel: bool = False

    @property
    def unread_photographs(self) -> list[str]:
        """Those of :attr:`ignored` that are photographs of kinds that are not read."""
        return [path for path in self.ignored if path.lower().endswith(CAMERA_SUFFIXES)]

    @property
    def inner_folders(self) -> list[str]:
        """The names of the folders inside class folders, sorted, where every image lies in one; else none.

        They may be the classes that are meant: of ``2023/daisy/1.jpg`` the class is 2023.
        """
        depth = 1 if "all" in self.splits else 2
        folders = [sample.path.split("/")[depth:-1] for sample in self.part("all")]
        return sorted({names[0] for names in folders}) if all(folders) else []

    def part(self, name: str) -> list[Sample]:
        """Return the samples of ``train``, ``val`` or ``test``, or of all of them."""
        if name == "all":
            return [sample for samples in self.splits.values() for sample in samples]
        return self.splits.get(name, [])

    def image(self, sample: Sample) -> Path | ArchiveMember:
        """Return what :func:`effnet_ft.data.images.decoding.read_image` reads for ``sample``."""
        return self.members.get(sample.path, self.root / sample.path)


def labels_of(sample: Sample, multilabel: bool) -> list[str]:
    """Return the names of all labels of ``sample``: one, or where an image has several labels, any number."""
    if not multilabel:
        return [sample.label]
    return sample.label.split(LABEL_SEPARATOR) if sample.label else []


def require_printable_names(source: Source) -> None:
    """Refuse classes whose names hold line breaks or other control characters: ``classes.txt`` has a line a class.

    Raises:
        DataError: naming them.
    """
    if broken := [name for name in source.classes if any(unicodedata.category(letter) == "Cc" for letter in name)]:
        raise DataError(
            f"{len(broken)} classes of {source.root} have line breaks or other control characters in their names: "
            f"rename them\n{listing(broken)}"
        )


def listing_progress(title: str) -> tqdm:
    """Return a progress bar for listing files, shown on a terminal where it takes more than two seconds."""
    return tqdm(desc=title, unit="", unit_scale=True, leave=False, disable=None, delay=2)


def scan_folder(root: str | Path, *, for_training: bool = True, empty_classes: bool = False) -> Source:
    """List a folder of images: ``train/``, ``val/`` and ``test/`` with a folder a class, or class folders alone.

    Class folders are searched to any depth. Hidden files and folders are passed over.

    Args:
        root: the folder.
        for_training: also refuse what only a training cannot use: a single class, and a class that stands in
            ``val/`` or ``test/`` but not in ``train/``.
        empty_classes: take class folders without an image as classes, instead of refusing them.

    Raises:
        DataError: for a missing folder, no images, or an empty class; the message names the folder.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root is '{root}', which {_instead_of_folder(root)}")
    ignored: list[str] = []
    folders = _split_folders(root)
    if for_training and folders and "train" not in folders:
        present = ", ".join(folder.name + "/" for folder in folders.values())
        raise DataError(f"{root} has {present} but no train/: there is nothing to train on")
    with listing_progress("listing images") as bar:
        listed = (folders or {"all": root}).items()
        splits = {split: _scan_classes(root, folder, ignored, bar, empty_classes) for split, folder in listed}
    if folders:
        others = (entry for entry in root.iterdir() if entry.is_dir() and entry not in folders.values())
        ignored += sorted(f"{entry.name}/" for entry in others if not entry.name.startswith("."))
    found = {split: set(by_class) for split, by_class in splits.items()}
    classes = tuple(sorted(found["train"] if "train" in found else set().union(*found.values())))
    if for_training:
        _check_for_training(root, classes, found)
    samples = {
        split: [Sample(path, name) for name in sorted(by_class) for path in by_class[name]]
        for split, by_class in splits.items()
    }
    return Source(root, classes, samples, ignored)


def _instead_of_folder(path: Path) -> str:
    """Return what ``path`` is, which is no folder, and what to do."""
    suffix = path.suffix.lower()
    if path.is_file() and suffix in (".csv", ".tsv"):
        return "is a list of images: add data.source=manifest"
    if path.is_file() and suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        return "is an archive: unpack it, and give the folder"
    return f"{'is a file' if path.is_file() else 'does not exist'}: give the folder that holds the images"


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folders that name a split; none where the root holds class folders."""
    folders = [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    words = {name for names in SPLIT_WORDS.values() for name in names}
    beside = any(entry.name.lower() not in words for entry in folders)
    # Beside other folders, one called train that holds images, not folders, is a class: trains, beside buses.
    present = {entry.name.lower(): entry for entry in folders if _has_folders(entry) or not beside}
    named = {
        split: next((present[name] for name in names if name in present), None) for split, names in SPLIT_WORDS.items()
    }
    return {split: folder for split, folder in named.items() if folder is not None}


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())


def _scan_classes(root: Path, folder: Path, ignored: list[str], bar: tqdm, empty_classes: bool) -> dict[str, list[str]]:
    """Return the image paths of each class folder in ``folder``."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    by_class = {entry.name: _scan_images(root, entry, ignored, bar) for entry in entries if entry.is_dir()}
    outside = [entry for entry in entries if entry.is_file()]
    ignored += [entry.relative_to(root).as_posix() for entry in outside]
    if not any(by_class.values()):
        loose = [entry for entry in outside if entry.suffix.lower() in SUFFIXES]
        hint = f"; {len(loose)} images lie in it without a class" if loose else ""
        raise DataError(
            f"no images in {folder}: expected a folder for each class with images in it ({', '.join(SUFFIXES)}){hint}"
        )
    empty = [name for name, paths in by_class.items() if not paths]
    if empty and not empty_classes:
        inside = tuple(f"{(folder / name).relative_to(root).as_posix()}/" for name in empty)
        camera = any(path.startswith(inside) and path.lower().endswith(CAMERA_SUFFIXES) for path in ignored)
        raise DataError(
            f"{len(empty)} class folders of {folder} hold no image: add images or remove the folders"
            f"{'; HEIC and raw photographs are not read: save them as JPEG' * camera}\n{listing(empty)}"
        )
    return by_class


def _scan_images(root: Path, folder: Path, ignored: list[str], bar: tqdm) -> list[str]:
    """Return the images of a class folder, relative to ``root``, those of a folder before those of its folders.

    Paths are texts here: a Path object for each of a million files takes longer than reading the folders.
    """
    paths: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(str(folder), folder.relative_to(root).as_posix())]
    while waiting:
        parent, relative = waiting.pop()
        stat = os.stat(parent)
        if (stat.st_dev, stat.st_ino) in seen:  # a link back to a folder above would list its images again and again
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders, files = _entries(parent)
        for name in files:
            found = paths if name.lower().endswith(SUFFIXES) else ignored
            found.append(f"{relative}/{name}")
        bar.update(len(files))
        waiting += [(f"{parent}/{name}", f"{relative}/{name}") for name in reversed(folders)]
    return paths


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the files in ``folder``, sorted, without the hidden ones."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def _check_for_training(root: Path, classes: tuple[str, ...], found: dict[str, set[str]]) -> None:
    if len(classes) == 1:
        inside = root / classes[0]
        hint = f"; if they lie in {inside}, give that folder" if inside.is_dir() and _has_folders(inside) else ""
        raise DataError(
            f"{root} holds one class only, '{classes[0]}': a classifier needs at least two class folders{hint}"
        )
    for split, names in found.items():
        if strange := sorted(names - set(classes)):
            alike = {_plain_letters(name): f"; train/ has '{name}', written otherwise" for name in classes}
            lines = [f"{name}{alike.get(_plain_letters(name), '')}" for name in strange]
            raise DataError(
                f"{len(strange)} classes of {split}/ are not in train/: a model cannot learn them; "
                f"add them to train/ or remove them\n{listing(lines)}"
            )


def _plain_letters(name: str) -> str:
    """Return ``name`` with small letters, and accents written in one way: computers have several."""
    return unicodedata.normalize("NFC", name).casefold()
