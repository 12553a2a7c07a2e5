"""Lists labelled images by a CSV file: their paths, one label or several, and where wanted split and group.

The columns are ``path``, ``label`` or ``labels``, ``split`` and ``group``; others are passed over. With ``labels`` an
image has any number of them, separated by ``|`` or ``;``. An apostrophe that keeps a spreadsheet from taking a cell for
a formula, as in ``'=1.jpg``, is no part of it.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from effnet_ft.data.sources.source import LABEL_SEPARATOR, SPLIT_WORDS, Sample, Source, labels_of, listing_progress
from effnet_ft.errors import DataError
from effnet_ft.utils.tables import unguarded
from effnet_ft.utils.text import listing

MANIFEST = "manifest.csv"
"""The file that is read where ``data.root`` is a folder."""

_COLUMNS = ("path", "label", "labels", "split", "group")
_SPLITS = {word: split for split, words in SPLIT_WORDS.items() for word in words}
_FAULTS_SHOWN = 20
_AS_UTF8 = "the file is not UTF-8: letters may be others than they were; a spreadsheet saves it as 'CSV UTF-8'"


def manifest_file(root: str | Path) -> Path:
    """Return the manifest that ``data.root`` names: the file itself, or the one in the folder."""
    path = Path(root).expanduser()
    return path / MANIFEST if path.is_dir() else path


def image_folder(root: str | Path, images: str | None = None) -> Path:
    """Return the folder that a manifest's paths are relative to: ``data.images`` or the manifest's own."""
    return Path(images).expanduser() if images else manifest_file(root).parent


def read_manifest(root: str | Path, images: str | None = None, *, for_training: bool = True) -> Source:
    """List the images of a manifest.

    Args:
        root: the CSV file, or a folder that holds ``manifest.csv``; separated by commas, semicolons or tabs.
        images: the folder that paths are relative to; None takes the manifest's own.
        for_training: also refuse what only a training cannot use: a single class, one that the training part lacks,
            and a group that stands in two parts.

    Raises:
        DataError: where the file cannot be read, and for wrong rows: all of them in one message, by row number.
    """
    file = manifest_file(root)
    folder = image_folder(root, images)
    if not file.is_file():
        raise DataError(f"data.root is '{root}', but there is no {file}: give the manifest, a CSV file of images")
    if not folder.is_dir():
        raise DataError(f"data.images is '{images}', which is no folder: give the one that the paths are relative to")
    try:
        # utf-8-sig, as spreadsheets write; surrogates keep names that are not UTF-8 as they lie on disk.
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
            header = lines.readline()
            delimiter = _delimiter(header)
            columns = _columns(file, next(csv.reader([header], delimiter=delimiter), []))
            rows = enumerate(csv.reader(lines, delimiter=delimiter), start=2)
            splits, faults = _samples(rows, columns, str(folder))
    except (OSError, csv.Error) as error:
        raise DataError(f"cannot read the manifest {file}: {error}") from error
    if faults:
        told = f"{len(faults)} rows of {file} are wrong\n{listing(faults, _FAULTS_SHOWN)}"
        raise DataError(told if _is_utf8(file) else f"{told}\n{_AS_UTF8}")
    multilabel = "labels" in columns
    found = {
        split: {name for sample in samples for name in labels_of(sample, multilabel)}
        for split, samples in splits.items()
    }
    classes = tuple(sorted(set().union(*found.values())))
    if not any(splits.values()):
        raise DataError(f"{file} lists no images: expected a row for each below its header")
    if for_training:
        _check_for_training(file, classes, found, splits, multilabel)
    return Source(folder, classes, splits, multilabel=multilabel)


def _delimiter(header: str) -> str:
    """Return what separates the cells of ``header``: the one that finds the most known columns."""

    def known(delimiter: str) -> int:
        return sum(_name(cell) in _COLUMNS for cell in next(csv.reader([header], delimiter=delimiter), []))

    return max((",", ";", "\t"), key=known)


def _is_utf8(file: Path) -> bool:
    try:
        file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _name(cell: str) -> str:
    return cell.strip().lower()


def _columns(file: Path, header: Sequence[str]) -> dict[str, int]:
    """Return the place of each known column, and of ``all``, the number of cells in a row."""
    names = [_name(cell) for cell in header]
    columns = {name: names.index(name) for name in _COLUMNS if name in names}
    missing = [name for name in ("path", "label") if name not in columns and f"{name}s" not in columns]
    if missing:
        raise DataError(
            f"{file} has no column {' and no column '.join(repr(name) for name in missing)}: its first line must name "
            f"the columns path and label (or labels), and may name split and group; it is: {', '.join(header)}"
            f"{'' if _is_utf8(file) else '; ' + _AS_UTF8}"
        )
    if "label" in columns and "labels" in columns:
        raise DataError(f"{file} has a column 'label' and a column 'labels': keep one, labels where there are several")
    twice = [name for name in columns if names.count(name) > 1]
    if twice:
        raise DataError(f"{file} has the column '{twice[0]}' twice")
    return {**columns, "all": len(names)}


def _samples(
    rows: Iterator[tuple[int, list[str]]], columns: dict[str, int], folder: str
) -> tuple[dict[str, list[Sample]], list[str]]:
    """Return the samples of each split, ``all`` where none is named, and what is wrong with which rows."""
    multilabel = "labels" in columns
    label_place = columns["labels" if multilabel else "label"]
    path_place, split_place, group_place = columns["path"], columns.get("split"), columns.get("group")
    faults: list[str] = []
    seen: dict[str, tuple[int, str, Sample]] = {}
    used: set[str] = set()
    names: dict[str, str] = {}  # the same text once, however many rows hold it
    with listing_progress("reading the manifest") as bar:
        for number, row in rows:
            bar.update()
            if not row:
                continue
            if len(row) != columns["all"]:
                faults.append(f"row {number}: {len(row)} cells, the header has {columns['all']}")
                continue
            path, text = unguarded(row[path_place]), unguarded(row[label_place])
            if text not in names:
                names[text] = _joined(text) if multilabel else text.strip()
            group = unguarded(row[group_place]).strip() if group_place is not None else ""
            sample = Sample(path, names[text], names.setdefault(group, group))
            word = row[split_place].strip() if split_place is not None else ""
            split = _SPLITS.get(word.lower(), "") if word else "all"
            if fault := _fault(sample, folder, word, split, multilabel):
                faults.append(f"row {number}: {fault}")
            elif path not in seen:
                used.add(split)
                seen[path] = (number, split, sample)
            elif seen[path][1:] != (split, sample):
                faults.append(f"row {number}: '{path}' again, otherwise than in row {seen[path][0]}")
    if "all" in used and len(used) > 1:
        empty = [str(number) for number, split, _ in seen.values() if split == "all"]
        faults.append(
            f"{len(empty)} rows name no split and others do, rows {', '.join(empty[:10])}"
            f"{', ...' if len(empty) > 10 else ''}: name it in every row or in none"
        )
    splits: dict[str, list[Sample]] = {split: [] for split in ("train", "val", "test", "all") if split in used}
    for _, split, sample in seen.values():
        splits[split].append(sample)
    return splits, faults


def _fault(sample: Sample, folder: str, word: str, split: str, multilabel: bool) -> str:
    """Return what is wrong with a row, an empty text where nothing is."""
    if not sample.path.strip():
        return "the path is empty"
    if not sample.label and not multilabel:
        return f"'{sample.path}' has no label"
    if not split:
        return f"the split is '{word}', expected train, val or test"
    if not os.path.isfile(os.path.join(folder, sample.path)):
        turned = sample.path.replace("\\", "/")
        hint = f", but '{turned}': write / for \\" if os.path.isfile(os.path.join(folder, turned)) else ""
        return f"there is no file '{sample.path}'{hint}"
    return ""


def _joined(text: str) -> str:
    """Return the labels of a cell, sorted, each once."""
    names = {name.strip() for name in re.split(r"[|;]", text)}
    return LABEL_SEPARATOR.join(sorted(names - {""}))


def _check_for_training(
    file: Path,
    classes: tuple[str, ...],
    found: dict[str, set[str]],
    splits: dict[str, list[Sample]],
    multilabel: bool,
) -> None:
    if multilabel and not classes:
        raise DataError(f"{file} names no label in any row: there is nothing to learn")
    if not multilabel and len(classes) == 1:
        raise DataError(f"{file} names one class only, '{classes[0]}': a classifier needs at least two")
    if "all" in splits:
        return
    if "train" not in splits:
        raise DataError(f"{file} has rows of {', '.join(splits)}, but none of train: there is nothing to train on")
    if strange := sorted(set(classes) - found["train"]):
        raise DataError(
            f"{len(strange)} classes of {file} have no image in train: a model cannot learn them\n{listing(strange)}"
        )
    sides: dict[str, set[str]] = {}
    for split, samples in splits.items():
        for sample in samples:
            if sample.group:
                sides.setdefault(sample.group, set()).add(split)
    if torn := sorted(f"{group}: {', '.join(sorted(parts))}" for group, parts in sides.items() if len(parts) > 1):
        raise DataError(
            f"{len(torn)} groups of {file} stand in more than one split: images of a group must stay together\n"
            f"{listing(torn)}"
        )
