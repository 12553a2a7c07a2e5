"""ImageNet as people have it: class folders, the official flat folder or tar of validation images, archives, lists.

For training the root holds, each on its own: ``train/`` and ``val/`` of class folders; ``train/`` of class folders and
a flat ``val/``; the official archives, which are unpacked; or lists of the images, ``train.txt`` and ``val.txt``, of
lines of a path with a class number 0-999 or a WordNet id. The official validation images are the validation part, and
there is no test part, for ImageNet's test images have no public classes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from effnet_ft.data.images.decoding import has_image_suffix
from effnet_ft.data.sources.imagenet.archives import LAYOUTS, tar_members, unpack
from effnet_ft.data.sources.imagenet.ground_truth import labels_of_flat
from effnet_ft.data.sources.source import Sample, Source, scan_folder
from effnet_ft.errors import DataError
from effnet_ft.utils.text import listing

_LISTS = ("{}.txt", "meta/{}.txt")


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
    members = tar_members(root) if root.is_file() else {}
    here = (entry.name for entry in root.iterdir()) if root.is_dir() else members
    names = sorted(filter(has_image_suffix, here))
    if not names:
        what = "a tar of them, or folders named by WordNet ids"
        raise DataError(f"data.root is '{root}', which holds no images: give ImageNet's validation images, {what}")
    label = labels_of_flat(root, classes, ground_truth, names)
    found = {name: label(name) for name in names}
    known = frozenset(classes)
    if unknown := [name for name, wnid in found.items() if wnid not in known]:
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
        raise DataError(f"data.root is '{root}', which {kind}: {LAYOUTS}")
    splits = {}
    for part in ("train", "val"):
        lists = (root / name.format(part) for name in _LISTS)
        given = next((path for path in lists if path.is_file() and _names_images(path, root / part)), None)
        if given is None and not (root / part).is_dir():
            unpack(root, part)
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
