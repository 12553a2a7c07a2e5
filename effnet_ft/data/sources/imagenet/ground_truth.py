"""The classes of ImageNet's flat validation images, from a separate list.

Supported are the official development kit, archived or unpacked (``meta.mat`` holds its own class numbering); a text
file of names with WordNet ids or class numbers; one of WordNet ids alone; and Kaggle's ``LOC_val_solution.csv``.
"""

import csv
import io
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from effnet_ft.errors import DataError

_GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_SYNSETS = "data/meta.mat"
_USUAL_NAMES = (
    *("ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12.tar.gz", "LOC_val_solution.csv"),
    *("val.txt", "meta/val.txt", "imagenet_2012_validation_synset_labels.txt"),
)

WnidOf = Callable[[str], str | None]  # maps an image's file name to its WordNet id, or None if unknown


def ground_truth_reader(root: Path, classes: Sequence[str], ground_truth: str | None, names: Sequence[str]) -> WnidOf:
    """Return a function from an image's name to its WordNet id; arguments as of ``scan_imagenet``.

    No list is needed if each of the images, ``names``, lies in a folder named by its WordNet id.
    """
    if all(Path(name).parent.name in classes for name in names):
        return lambda name: Path(name).parent.name
    usual = (folder / name for folder in (root, root.parent) for name in _USUAL_NAMES)
    path = Path(ground_truth).expanduser() if ground_truth else next(filter(Path.exists, usual), None)
    if path is None:
        raise DataError(
            f"{root} holds images without class folders, and no list of their classes is in it or beside it: "
            f"give it with data.ground_truth=...; looked for {', '.join(_USUAL_NAMES)}"
        )
    try:
        return _read_ground_truth(path, classes)
    except Exception as error:  # tarfile, gzip, csv and scipy raise many kinds for a damaged file
        raise DataError(f"cannot read the ground truth {path}: {error or type(error).__name__}") from error


def _read_ground_truth(path: Path, classes: Sequence[str]) -> WnidOf:
    if path.is_dir():
        return _devkit((path / _GROUND_TRUTH).read_text(), (path / _SYNSETS).read_bytes())
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        with tarfile.open(path) as archive:
            files = {
                name: file.read()
                for member in archive
                for name in (_GROUND_TRUTH, _SYNSETS)
                if member.name.endswith(name) and (file := archive.extractfile(member))
            }
        return _devkit(files[_GROUND_TRUTH].decode(), files[_SYNSETS])
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        return _by_name({row["ImageId"]: row["PredictionString"].split()[0] for row in rows})
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if all(len(line) == 2 for line in lines):
        wnids = (classes[int(label)] if label.isdigit() else label for _, label in lines)
        return _by_name({Path(name).stem: wnid for (name, _), wnid in zip(lines, wnids, strict=True)})
    if lines and all(len(line) == 1 and line[0] in classes for line in lines):
        return _by_number([line[0] for line in lines])
    synsets = path.parent / Path(_SYNSETS).name
    if synsets.is_file():
        return _devkit(text, synsets.read_bytes())
    raise ValueError(
        "expected lines of a name with a WordNet id or a class number 0-999, or WordNet ids alone; "
        "the class numbers of the official development kit need its meta.mat beside them"
    )


def _devkit(ground_truth: str, synsets: bytes) -> WnidOf:
    """Read the official list, which numbers the classes from 1 in the development kit's own order."""
    from scipy.io import loadmat

    table = loadmat(io.BytesIO(synsets), squeeze_me=True)["synsets"]
    by_number = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table if row["num_children"] == 0}
    return _by_number([by_number[int(number)] for number in ground_truth.split()])


def _by_name(labels: dict[str, str]) -> WnidOf:
    return lambda name: labels.get(Path(name).stem)


def _by_number(labels: Sequence[str]) -> WnidOf:
    """Match official names, ``ILSVRC2012_val_00000001.JPEG``, to the lines of the list, counted from 1."""

    def label(name: str) -> str | None:
        number = re.search(r"(\d+)$", Path(name).stem)
        return labels[int(number[1]) - 1] if number and 1 <= int(number[1]) <= len(labels) else None

    return label
