"""Labelled images as any source lists them, before they are split or read."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from effnet_ft.data.images.decoding import ArchiveMember
from effnet_ft.errors import DataError
from effnet_ft.utils.text import counted, listing

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of the splits in folders and manifests, lower case."""

SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}

CAMERA_SUFFIXES = (".heic", ".heif", ".avif", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2", ".jxl")
"""Photograph formats of phones and cameras that cannot be read, lower case."""

LABEL_SEPARATOR = "|"  # between the labels of an image with several


@dataclass(frozen=True)
class Sample:
    """An image file and its class."""

    path: str  # relative to the source's root, with forward slashes
    label: str  # the class name; in a multi-label source any number of names, joined by LABEL_SEPARATOR
    group: str = ""  # images of one group, such as one patient, always go to the same split; empty for none
    digest: str = field(default="", compare=False)  # SHA-256 of the file's content, hexadecimal; empty if not known


@dataclass(frozen=True)
class Source:
    """A list of labelled images."""

    root: Path  # the folder that all paths are relative to
    classes: tuple[str, ...]  # names, sorted
    splits: dict[str, list[Sample]]  # by train, val and test if the source is split, else by all
    ignored: list[str] = field(default_factory=list)  # files that are no images or lie outside the class folders
    members: dict[str, ArchiveMember] = field(default_factory=dict)  # images inside an archive, by path
    multilabel: bool = False  # an image has any number of labels, not one class

    @property
    def unread_photographs(self) -> list[str]:
        """The :attr:`ignored` files that are photographs in unsupported formats."""
        return [path for path in self.ignored if path.lower().endswith(CAMERA_SUFFIXES)]

    @property
    def inner_folders(self) -> list[str]:
        """Folders in class folders, if every image lies in one: perhaps the intended classes, as in ``2023/daisy/``."""
        depth = 1 if "all" in self.splits else 2
        folders = [sample.path.split("/")[depth:-1] for sample in self.part("all")]
        return sorted({names[0] for names in folders}) if all(folders) else []

    def part(self, name: str) -> list[Sample]:
        """Return the samples of ``train``, ``val`` or ``test``, or ``all`` of them."""
        if name == "all":
            return [sample for samples in self.splits.values() for sample in samples]
        return self.splits.get(name, [])

    def image(self, sample: Sample) -> Path | ArchiveMember:
        """Return the image of ``sample`` for :func:`effnet_ft.data.images.decoding.read_image`."""
        return self.members.get(sample.path, self.root / sample.path)


def labels_of(sample: Sample, multilabel: bool) -> list[str]:
    """Return the label names of ``sample``: exactly one, or any number if ``multilabel``."""
    if not multilabel:
        return [sample.label]
    return sample.label.split(LABEL_SEPARATOR) if sample.label else []


def label_names(samples: Iterable[Sample], multilabel: bool) -> set[str]:
    """Return the names of all labels of ``samples``."""
    return {name for sample in samples for name in labels_of(sample, multilabel)}


def same_name(name: str) -> str:
    """Return what a person reads: ``name`` without case, outer and invisible blanks, accents in one Unicode form.

    Single letters keep their case: a and A are classes of handwriting.
    """
    visible = "".join(letter for letter in unicodedata.normalize("NFC", name) if unicodedata.category(letter) != "Cf")
    return " ".join((visible if len(visible) == 1 else visible.casefold()).split())


def require_usable_names(source: Source) -> None:
    """Raise a DataError for class names with control characters, and for those that look the same to a person."""
    if broken := [name for name in source.classes if any(unicodedata.category(letter) == "Cc" for letter in name)]:
        raise DataError(  # classes.txt has one class a line
            f"line breaks or other control characters in {counted(len(broken), 'class name')} of {source.root}: "
            f"rename the classes\n{listing(broken)}"
        )
    alike: dict[str, list[str]] = {}
    for name in source.classes:
        alike.setdefault(same_name(name), []).append(name)
    if twins := [" and ".join(map(ascii, names)) for names in alike.values() if len(names) > 1]:
        raise DataError(
            f"{counted(len(twins), 'class')} of {source.root} written in several ways: rename or merge them\n"
            f"{listing(twins)}"
        )
