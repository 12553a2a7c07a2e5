"""ImageNet in its usual layouts: class folders, a flat folder or tar of validation images, archives, lists.

For training, ``train`` and ``val`` may each be class folders (``val/`` may also be flat), an official archive, which
is unpacked, or a list, ``train.txt`` or ``val.txt``, with lines of a path and a class number 0-999 or a WordNet id. The
official validation images are the validation split; there is no test split, as ImageNet's test labels are not public.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from effnet_ft.data.images.decoding import has_image_suffix
from effnet_ft.data.sources.folder import has_folders, scan_folder
from effnet_ft.data.sources.imagenet.archives import EXPECTED_LAYOUTS, tar_members, unpack_archive
from effnet_ft.data.sources.imagenet.ground_truth import ground_truth_reader
from effnet_ft.data.sources.source import Sample, Source
from effnet_ft.errors import DataError
from effnet_ft.utils.text import counted, listing


def scan_imagenet(root: str | Path, classes: Sequence[str], ground_truth: str | None = None) -> Source:
    """List all or some of ImageNet's validation images in class folders, a flat folder, or a tar file of either.

    Args:
        root: the folder or tar file.
        classes: the 1,000 WordNet ids in the order of the class numbers.
        ground_truth: the list of flat images' classes; None looks for it near them under its usual names.

    Raises:
        DataError: if images or classes are missing.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"data.root is '{root}', which does not exist: give ImageNet's validation images")
    if any((root / name).is_dir() for name in ("val", *classes)):
        return scan_folder(root, for_training=False)
    members = tar_members(root) if root.is_file() else {}
    files = (entry.name for entry in root.iterdir()) if root.is_dir() else members
    names = sorted(filter(has_image_suffix, files))
    if not names:
        raise DataError(
            f"data.root is '{root}', which holds no images: give ImageNet's validation images, a tar of them, or "
            "folders named by WordNet ids"
        )
    wnid_of = ground_truth_reader(root, classes, ground_truth, names)
    labels = {name: wnid_of(name) for name in names}
    known = frozenset(classes)
    if unknown := [name for name, wnid in labels.items() if wnid not in known]:
        raise DataError(
            f"{counted(len(unknown), 'image')} of {root} without a class in the ground truth\n{listing(unknown, 5)}"
        )
    samples = [Sample(name, str(wnid)) for name, wnid in labels.items()]
    return Source(root, tuple(sorted({sample.label for sample in samples})), {"val": samples}, members=members)


def read_imagenet(root: str | Path, classes: Sequence[str], ground_truth: str | None = None) -> Source:
    """List all or some of ImageNet as ``train`` and ``val``, unpacking official archives; see :func:`scan_imagenet`.

    Raises:
        DataError: if images or classes are missing, an archive is damaged, or the disk has no room to unpack it.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        kind = "is a file" if root.is_file() else "does not exist"
        raise DataError(f"data.root is '{root}', which {kind}: {EXPECTED_LAYOUTS}")
    splits = {}
    for part in ("train", "val"):
        lists = [path for path in (root / f"{part}.txt", root / f"meta/{part}.txt") if path.is_file()]
        if named := [path for path in lists if _names_images(path, root / part)]:
            splits[part] = _read_list(root, part, named[0], classes)
            continue
        if not (root / part).is_dir():
            unpack_archive(root, part)
        splits[part] = _scan_split(root, part, classes, ground_truth if part == "val" else None)
    known = {sample.label for sample in splits["train"]}
    if unlearnable := sorted({sample.label for sample in splits["val"]} - known):
        raise DataError(
            f"{root} has no training images of {counted(len(unlearnable), 'class')} of the validation images, "
            f"which a model cannot learn\n{listing(unlearnable)}"
        )
    return Source(root, tuple(sorted(known)), splits)


def _names_images(path: Path, folder: Path) -> bool:
    """Return whether a list has paths below ``folder`` or its parent, not flat names beside class folders."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line.split() for line in file if line.strip()), [])
    if len(first) != 2:
        return False  # classes alone: the ground truth of a flat folder
    return not folder.is_dir() or any((parent / first[0]).is_file() for parent in (folder.parent, folder))


def _read_list(root: Path, part: str, path: Path, classes: Sequence[str]) -> list[Sample]:
    """Return the images of a list, whose paths are relative to the root or to the split's folder."""
    known = frozenset(classes)
    samples: list[tuple[str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        wnid = (classes[int(label)] if int(label) < len(classes) else "") if label.isdecimal() else label
        if not name or wnid not in known:
            raise DataError(f"{path}, line {number}: {line!r} is not a path with a class number 0-999 or a WordNet id")
        samples.append((name.strip(), wnid))
    if not samples:
        raise DataError(f"the list {path} is empty: expected lines of a path with a class number 0-999 or a WordNet id")
    prefix = "" if (root / samples[0][0]).is_file() else f"{part}/"
    listed = [Sample(prefix + name, wnid) for name, wnid in samples]
    if missing := [sample.path for sample in listed if not os.path.isfile(os.path.join(root, sample.path))]:
        raise DataError(
            f"not in {root}: {len(missing)} of the {counted(len(listed), 'image')} of {path}\n{listing(missing, 3)}"
        )
    return listed


def _scan_split(root: Path, part: str, classes: Sequence[str], ground_truth: str | None) -> list[Sample]:
    """Return the images of a folder of class folders, or of the flat folder of validation images."""
    folder = root / part
    flat = part == "val" and not has_folders(folder)
    source = scan_imagenet(folder, classes, ground_truth) if flat else scan_folder(folder, for_training=False)
    samples = [Sample(f"{part}/{sample.path}", sample.label) for sample in source.part("all")]
    if unknown := sorted({sample.label for sample in samples} - set(classes)):
        raise DataError(
            f"{counted(len(unknown), 'class folder')} of {folder} not named by an ImageNet WordNet id: "
            f"for other images use data.source=folder\n{listing(unknown)}"
        )
    return samples
