"""ImageNet as people have it: class folders, the official flat folder or tar of validation images, archives, lists.

For training the root holds, each on its own: ``train/`` and ``val/`` of class folders; ``train/`` of class folders and
a flat ``val/``; the official archives, which are unpacked; or lists of the images, ``train.txt`` and ``val.txt``, of
lines of a path with a class number 0-999 or a WordNet id. The official validation images are the validation part, and
there is no test part, for ImageNet's test images have no public classes.

Flat images have their classes in a list apart. Four kinds are read: the official development kit, as an archive or
unpacked (its own numbering of the classes is in ``meta.mat``); a text of names with WordNet ids or class numbers; a
text of WordNet ids in the order of the images; Kaggle's ``LOC_val_solution.csv``.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from effnet_ft.data.images import SUFFIXES, ArchiveMember
from effnet_ft.data.sources import Sample, Source, scan_folder
from effnet_ft.errors import DataError, listing

_GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_SYNSETS = "data/meta.mat"
_USUAL_PLACES = (
    *("ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12.tar.gz", "LOC_val_solution.csv"),
    *("val.txt", "meta/val.txt", "imagenet_2012_validation_synset_labels.txt"),
)

_LISTS = ("{}.txt", "meta/{}.txt")

log = logging.getLogger(__name__)

Label = Callable[[str], str | None]
"""Maps an image's file name to its WordNet id, None where it has none."""


def scan_imagenet(root: str | Path, classes: Sequence[str], ground_truth: str | None = None) -> Source:
    """List ImageNet's validation images, all or some.

    Args:
        root: a folder of class folders, a flat folder of images, or a tar file of either.
        classes: the 1,000 WordNet ids in the order of the class numbers.
        ground_truth: the list of classes of flat images; None looks for it beside them under its usual names.

    Raises:
        DataError: where images or classes are missing, with what was looked for.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"data.root is '{root}', which does not exist: give ImageNet's validation images")
    if any((root / name).is_dir() for name in ("val", *classes)):
        return scan_folder(root, for_training=False)
    members = _tar_members(root) if root.is_file() else {}
    if root.is_dir():
        names = sorted(entry.name for entry in root.iterdir() if _is_image(entry.name))
    else:
        names = sorted(members)
    if not names:
        what = "a tar of them, or folders named by WordNet ids"
        raise DataError(f"data.root is '{root}', which holds no images: give ImageNet's validation images, {what}")
    label = _labels(root, classes, ground_truth, names)
    found = {name: label(name) for name in names}
    if unknown := [name for name, wnid in found.items() if wnid not in set(classes)]:
        raise DataError(f"{len(unknown)} images of {root} have no class in the ground truth\n{listing(unknown, 5)}")
    samples = [Sample(name, str(wnid)) for name, wnid in found.items()]
    return Source(root, tuple(sorted({sample.label for sample in samples})), {"val": samples}, members=members)


def read_imagenet(root: str | Path, classes: Sequence[str], ground_truth: str | None = None) -> Source:
    """List ImageNet for training, all or some of its classes; the official archives are unpacked first.

    Args:
        root: the folder, as this module's first lines say.
        classes: the 1,000 WordNet ids in the order of the class numbers.
        ground_truth: the list of classes of a flat ``val/``; None looks for it under its usual names.

    Returns:
        The images by ``train`` and ``val``.

    Raises:
        DataError: where images or classes are missing, an archive is damaged, or the disk lacks room to unpack it.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        kind = "is a file" if root.is_file() else "does not exist"
        raise DataError(f"data.root is '{root}', which {kind}: {_LAYOUTS}")
    splits = {}
    for part in ("train", "val"):
        lists = (root / name.format(part) for name in _LISTS)
        given = next((path for path in lists if path.is_file() and _names_images(path, root / part)), None)
        if given is None and not (root / part).is_dir():
            _unpack(root, part)
        if given is not None:
            splits[part] = _listed(root, part, given, classes)
        else:
            truth = ground_truth if part == "val" else None
            splits[part] = _below(root, part, classes, truth)
    known = {sample.label for sample in splits["train"]}
    if strange := sorted({sample.label for sample in splits["val"]} - known):
        raise DataError(
            f"{len(strange)} classes of the validation images are not among the training images of {root}: "
            f"a model cannot learn them\n{listing(strange)}"
        )
    return Source(root, tuple(sorted(known)), splits)


_LAYOUTS = (
    "give the folder that holds train/ and val/ with a folder for each class, or the lists train.txt and val.txt, "
    "or the official archives ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz"
)


def _names_images(path: Path, folder: Path) -> bool:
    """Return whether a list decides which images there are: one of their paths does, one of other names does not.

    Lists of flat names lie beside many sorted copies too, whose folders say the class already.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line.split() for line in file if line.strip()), [])
    if len(first) != 2:
        return False  # classes alone, in the order of the images: the ground truth of a flat folder
    places = (folder.parent / first[0], folder / first[0])
    return any(place.is_file() for place in places) or not folder.is_dir()


def _has_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)


def _listed(root: Path, part: str, path: Path, classes: Sequence[str]) -> list[Sample]:
    """Return the images of a list, whose paths start at the root or at the part's folder."""
    known = frozenset(classes)
    samples: list[tuple[str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, mark = line.strip().rpartition(" ")
        wnid = (classes[int(mark)] if int(mark) < len(classes) else "") if mark.isdecimal() else mark
        if not name or wnid not in known:
            raise DataError(f"{path}, line {number}: {line!r} is no path with a class number 0-999 or a WordNet id")
        samples.append((name.strip(), wnid))
    if not samples:
        raise DataError(f"the list {path} is empty: expected lines of a path with a class number 0-999 or a WordNet id")
    first = samples[0][0]
    before = "" if (root / first).is_file() else f"{part}/"
    found = [Sample(before + name, wnid) for name, wnid in samples]
    if gone := [sample.path for sample in found if not os.path.isfile(os.path.join(root, sample.path))]:
        raise DataError(f"{len(gone)} of the {len(found)} images of {path} are not in {root}\n{listing(gone, 3)}")
    return found


def _below(root: Path, part: str, classes: Sequence[str], ground_truth: str | None) -> list[Sample]:
    """Return the images of a folder of class folders, or of the flat folder of validation images."""
    folder = root / part
    flat = part == "val" and not _has_folders(folder)
    source = scan_imagenet(folder, classes, ground_truth) if flat else scan_folder(folder, for_training=False)
    samples = [Sample(f"{part}/{sample.path}", sample.label) for sample in source.part("all")]
    if strange := sorted({sample.label for sample in samples} - set(classes)):
        raise DataError(
            f"{len(strange)} class folders of {folder} are not named by ImageNet's WordNet ids: "
            f"for other images take data.source=folder\n{listing(strange)}"
        )
    return samples


def _unpack(root: Path, part: str) -> None:
    """Unpack the official archive of ``part`` into class folders, which appear whole or not at all."""
    from filelock import FileLock
    from torchvision.datasets import imagenet

    archive = root / imagenet.ARCHIVE_META[part][0]
    needed = [archive, *([root / imagenet.ARCHIVE_META["devkit"][0]] if part == "val" else [])]
    if gone := [path.name for path in needed if not path.is_file()]:
        raise DataError(f"{root} holds neither {part}/ nor {part}.txt nor {' and '.join(gone)}: {_LAYOUTS}")
    free, size = shutil.disk_usage(root).free, archive.stat().st_size
    if free < 1.02 * size:  # blocks of the file system are not filled to the end
        raise DataError(
            f"unpacking {archive} takes {1.02 * size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free in {root}: "
            "make room, or unpack it elsewhere and give that folder"
        )
    temporary = root / f".{part}.part"
    try:
        with FileLock(root / ".imagenet.lock"):
            if (root / part).is_dir():  # another process has unpacked it meanwhile
                return
            log.info("ImageNet: checking and unpacking %s, which takes long", archive)
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                _parse_archive(imagenet, root, part, temporary.name)
                os.replace(temporary, root / part)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except Exception as error:  # torchvision's RuntimeError names the file; tarfile and zlib raise many kinds
        places = " and ".join(str(path) for path in needed)
        raise DataError(
            f"cannot unpack {places}: {error or type(error).__name__}\nIs it whole? Get what is damaged again."
        ) from error


def _parse_archive(imagenet: Any, root: Path, part: str, folder: str) -> None:
    if part == "train":
        imagenet.parse_train_archive(str(root), folder=folder)
        return
    imagenet.parse_devkit_archive(str(root))
    imagenet.parse_val_archive(str(root), folder=folder)


def _tar_members(path: Path) -> dict[str, ArchiveMember]:
    try:
        with tarfile.open(path, "r:") as archive:
            files = [member for member in archive if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"cannot read {path} as an uncompressed tar file ({error}): is it whole?") from error
    images = (member for member in files if _is_image(member.name))
    return {member.name: ArchiveMember(path, member.name, member.offset_data, member.size) for member in images}


def _is_image(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _labels(root: Path, classes: Sequence[str], ground_truth: str | None, names: Sequence[str]) -> Label:
    if all(Path(name).parent.name in classes for name in names):
        return lambda name: Path(name).parent.name
    beside = (folder / place for folder in (root, root.parent) for place in _USUAL_PLACES)
    found = next((place for place in beside if place.exists()), None)
    path = Path(ground_truth).expanduser() if ground_truth else found
    if path is None:
        raise DataError(
            f"{root} holds images without class folders, and no list of their classes lies in it or beside it: "
            f"give it with data.ground_truth=...; looked for {', '.join(_USUAL_PLACES)}"
        )
    try:
        return _read_ground_truth(path, classes)
    except Exception as error:  # tarfile, gzip, csv and scipy raise many kinds for a damaged file
        raise DataError(f"cannot read the ground truth {path}: {error or type(error).__name__}") from error


def _read_ground_truth(path: Path, classes: Sequence[str]) -> Label:
    if path.is_dir():
        return _devkit((path / _GROUND_TRUTH).read_text(), (path / _SYNSETS).read_bytes())
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        with tarfile.open(path) as archive:
            parts = {
                name: file.read()
                for member in archive
                for name in (_GROUND_TRUTH, _SYNSETS)
                if member.name.endswith(name) and (file := archive.extractfile(member))
            }
        return _devkit(parts[_GROUND_TRUTH].decode(), parts[_SYNSETS])
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        return _by_name({row["ImageId"]: row["PredictionString"].split()[0] for row in rows})
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if all(len(line) == 2 for line in lines):
        return _by_name({Path(name).stem: _wnid(mark, classes) for name, mark in lines})
    if lines and all(len(line) == 1 and line[0] in classes for line in lines):
        return _by_number([line[0] for line in lines])
    synsets = path.parent / Path(_SYNSETS).name
    if synsets.is_file():
        return _devkit(text, synsets.read_bytes())
    raise ValueError(
        "expected lines of a name with a WordNet id or a class number 0-999, or WordNet ids alone; "
        "the numbers of the official development kit need its meta.mat beside them"
    )


def _devkit(ground_truth: str, synsets: bytes) -> Label:
    """Read the official list, whose numbers from 1 follow the development kit's own order of the classes."""
    from scipy.io import loadmat

    table = loadmat(io.BytesIO(synsets), squeeze_me=True)["synsets"]
    by_number = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table if row["num_children"] == 0}
    return _by_number([by_number[int(number)] for number in ground_truth.split()])


def _wnid(mark: str, classes: Sequence[str]) -> str:
    return classes[int(mark)] if mark.isdigit() else mark


def _by_name(labels: dict[str, str]) -> Label:
    return lambda name: labels.get(Path(name).stem)


def _by_number(labels: Sequence[str]) -> Label:
    """Take the official names, ``ILSVRC2012_val_00000001.JPEG``, whose number counts the lines of the list from 1."""

    def label(name: str) -> str | None:
        number = re.search(r"(\d+)$", Path(name).stem)
        inside = number is not None and 1 <= int(number[1]) <= len(labels)
        return labels[int(number[1]) - 1] if number is not None and inside else None

    return label
