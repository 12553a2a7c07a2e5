"""Lists labelled images from a CSV file with the columns ``path``, ``label`` or ``labels``, ``split`` and ``group``.

Other columns are ignored. ``labels`` holds any number of labels, separated by ``|`` or ``;``. The apostrophe that stops
a spreadsheet from reading a cell as a formula, as in ``'=1.jpg``, is removed.
"""

import csv
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

from effnet_ft.data.sources.source import LABEL_SEPARATOR, SPLIT_OF, SPLITS, Sample, Source, label_names
from effnet_ft.errors import DataError
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.tables import unescape_formula
from effnet_ft.utils.text import counted, listing

MANIFEST = "manifest.csv"  # the file that is read if `data.root` is a folder

_COLUMNS = ("path", "label", "labels", "split", "group")
_ENCODING_HINT = "the file is not UTF-8, so letters may be wrong: save it from the spreadsheet as 'CSV UTF-8'"


def manifest_file(root: str | Path) -> Path:
    """Return the manifest that ``data.root`` names: the file itself, or the one in the folder."""
    path = Path(root).expanduser()
    return path / MANIFEST if path.is_dir() else path


def image_folder(root: str | Path, images: str | None = None) -> Path:
    """Return the folder that a manifest's paths are relative to: ``images`` or the manifest's own."""
    return Path(images).expanduser() if images else manifest_file(root).parent


def read_manifest(root: str | Path, images: str | None = None, *, for_training: bool = True) -> Source:
    """List the images of a manifest.

    Args:
        root: the CSV file, or a folder that holds ``manifest.csv``; separated by commas, semicolons or tabs.
        images: the folder that paths are relative to; None means the manifest's own.
        for_training: refuse a single class, a class that is not in the training split, and a group in two splits.

    Raises:
        DataError: if the file cannot be read, or listing all wrong rows by number.
    """
    file = manifest_file(root)
    folder = image_folder(root, images)
    if not file.is_file():
        raise DataError(f"data.root is '{root}', but there is no {file}: give the manifest, a CSV file of images")
    if not folder.is_dir():
        raise DataError(f"data.images is '{images}', which is not a folder: give the one that paths are relative to")
    try:
        # utf-8-sig, as spreadsheets write; surrogateescape preserves file names that are not UTF-8.
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
            header = lines.readline()
            delimiter = _delimiter(header)
            columns = _columns(file, header, delimiter)
            rows = enumerate(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), start=2)
            splits, faults = _read_rows(rows, columns, str(folder))
    except (OSError, csv.Error) as error:
        raise DataError(f"cannot read the manifest {file}: {error}") from error
    if faults:
        message = f"{counted(len(faults), 'wrong row')} in {file}\n{listing(faults, 20)}"
        raise DataError(message if _is_utf8(file) else f"{message}\n{_ENCODING_HINT}")
    multilabel = "labels" in columns
    names = {split: label_names(samples, multilabel) for split, samples in splits.items()}
    classes = tuple(sorted(set().union(*names.values())))
    if not any(splits.values()):
        raise DataError(f"{file} lists no images: expected a row for each below its header")
    source = Source(folder, classes, splits, multilabel=multilabel)
    if for_training:
        _check_for_training(file, source, names)
    return source


def _delimiter(header: str) -> str:
    """Return the delimiter that finds the most known columns in ``header``."""

    def known(delimiter: str) -> int:
        return len({*_COLUMNS} & {*_column_names(header, delimiter)})

    return max((",", ";", "\t"), key=known)


def _is_utf8(file: Path) -> bool:
    try:
        file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _column_names(header: str, delimiter: str) -> list[str]:
    return [cell.strip().lower() for cell in next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])]


def _columns(file: Path, header: str, delimiter: str) -> dict[str, int]:
    """Return the index of each known column and, as ``all``, the number of columns."""
    names = _column_names(header, delimiter)
    columns = {name: names.index(name) for name in _COLUMNS if name in names}
    missing = [name for name in ("path", "label") if name not in columns and f"{name}s" not in columns]
    if missing:
        raise DataError(
            f"{file} has no column {' and no column '.join(repr(name) for name in missing)}: its first line must name "
            f"the columns path and label (or labels), and may name split and group; it is: {', '.join(names)}"
            f"{'' if _is_utf8(file) else '; ' + _ENCODING_HINT}"
        )
    if "label" in columns and "labels" in columns:
        raise DataError(f"{file} has a column 'label' and a column 'labels': keep one, labels for several per image")
    duplicates = [name for name in columns if names.count(name) > 1]
    if duplicates:
        raise DataError(f"{file} has the column '{duplicates[0]}' twice")
    return {**columns, "all": len(names)}


def _read_rows(
    rows: Iterator[tuple[int, list[str]]], columns: dict[str, int], folder: str
) -> tuple[dict[str, list[Sample]], list[str]]:
    """Return the samples of each split, or of ``all`` if none is named, and the faults of wrong rows."""
    multilabel = "labels" in columns
    split_column, group_column = columns.get("split"), columns.get("group")
    faults: list[str] = []
    seen: dict[object, tuple[int, str, Sample]] = {}  # by the file itself, which may be written in several ways
    used: set[str] = set()
    names: dict[str, str] = {}  # labels by their text: rows share one string for each label and group
    with progress_bar("reading the manifest") as bar:
        for number, row in rows:
            bar.update()
            if not row:
                continue
            if len(row) != columns["all"]:
                faults.append(f"row {number}: {len(row)} cells, the header has {columns['all']}")
                continue
            path, text = (unescape_formula(row[columns[key]]) for key in ("path", "labels" if multilabel else "label"))
            if text not in names:
                several = {name.strip() for name in re.split(r"[|;]", text)} - {""}
                names[text] = LABEL_SEPARATOR.join(sorted(several)) if multilabel else text.strip()
            group = unescape_formula(row[group_column]).strip() if group_column is not None else ""
            path, identity = _existing_file(folder, path)
            sample = Sample(path, names[text], sys.intern(group))
            word = row[split_column].strip() if split_column is not None else ""
            split = SPLIT_OF.get(word.lower(), "") if word else "all"
            if fault := _row_fault(sample, identity, folder, word, split, multilabel):
                faults.append(f"row {number}: {fault}")
            elif identity not in seen:
                used.add(split)
                seen[identity] = (number, split, sample)
            elif seen[identity][1:] != (split, replace(sample, path=seen[identity][2].path)):
                other = seen[identity][2].path
                same = f"'{path}'" if other == path else f"'{path}' is the same file as '{other}' and"
                faults.append(f"row {number}: {same} differs from row {seen[identity][0]}")
    if "all" in used and len(used) > 1:
        empty = [str(number) for number, split, _ in seen.values() if split == "all"]
        faults.append(
            f"{counted(len(empty), 'row')} without a split while others have one: {', '.join(empty[:10])}"
            f"{', ...' if len(empty) > 10 else ''}; give it in every row or in none"
        )
    known = {name for text in names.values() for name in (text.split(LABEL_SEPARATOR) if multilabel else [text])}
    for name in sorted(known):
        parts = {part.strip() for part in re.split(r"[,;|]", name)}
        if len(parts) > 1 and parts & known:
            hint = "" if multilabel else "name the column labels, and "
            faults.append(f"the label '{name}' contains the label '{min(parts & known)}': {hint}separate labels by |")
    splits: dict[str, list[Sample]] = {split: [] for split in (*SPLITS, "all") if split in used}
    for _, split, sample in seen.values():
        splits[split].append(sample)
    return splits, faults


def _existing_file(folder: str, path: str) -> tuple[str, object]:
    """Return ``path`` in the Unicode form that the file has, and what identifies the file; None if there is none."""
    for form in (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)):
        with suppress(OSError, ValueError):
            stat = os.stat(os.path.join(folder, form))
            if S_ISREG(stat.st_mode):
                return form, (stat.st_dev, stat.st_ino) if stat.st_ino else form  # some network drives have no inodes
    return path, None


def _row_fault(sample: Sample, file: object, folder: str, word: str, split: str, multilabel: bool) -> str:
    """Return what is wrong with a row, or an empty string."""
    if not sample.path.strip():
        return "the path is empty"
    if not sample.label and not multilabel:
        return f"'{sample.path}' has no label"
    if re.fullmatch(r"""\[.*\]|[({].*['",].*[)}]""", sample.label):
        return f"the label '{sample.label}' looks like a list: name the column labels, and write a|b"
    if not split:
        return f"the split is '{word}', expected train, val or test"
    if file is None:
        posix = sample.path.replace("\\", "/")
        hint = f", but '{posix}': write / for \\" if os.path.isfile(os.path.join(folder, posix)) else ""
        return f"there is no file '{sample.path}'{hint}"
    return ""


def _check_for_training(file: Path, source: Source, names: dict[str, set[str]]) -> None:
    """Check the classes and groups of each split; ``names`` are the labels in each."""
    classes, splits, multilabel = source.classes, source.splits, source.multilabel
    if multilabel and not classes:
        raise DataError(f"{file} has no label in any row: there is nothing to learn")
    if not multilabel and len(classes) == 1:
        raise DataError(f"{file} has one class only, '{classes[0]}': a classifier needs at least two")
    if "all" in splits:
        return
    if "train" not in splits:
        raise DataError(f"{file} has rows of {', '.join(splits)}, but none of train: there is nothing to train on")
    if unlearnable := sorted(set(classes) - names["train"]):
        raise DataError(
            f"{counted(len(unlearnable), 'class')} of {file} without an image in train, which a model cannot learn\n"
            f"{listing(unlearnable)}"
        )
    splits_of: dict[str, set[str]] = {}
    for split, sample in ((split, sample) for split, samples in splits.items() for sample in samples if sample.group):
        splits_of.setdefault(sample.group, set()).add(split)
    if torn := sorted(f"{group}: {', '.join(sorted(parts))}" for group, parts in splits_of.items() if len(parts) > 1):
        raise DataError(
            f"{counted(len(torn), 'group')} of {file} in more than one split: a group must stay in one\n{listing(torn)}"
        )
