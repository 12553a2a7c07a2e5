"""Writes and reads the split of a run as a CSV file, which is also a manifest."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from effnet_ft.data.sources.source import SPLITS, Sample, labels_of
from effnet_ft.data.splits.split import Split
from effnet_ft.errors import DataError
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.tables import unescape_formula, write_csv
from effnet_ft.utils.text import listing


def write_split(split: Split, path: Path) -> None:
    """Write ``split`` as CSV with the columns path, label or labels, split and, if there are groups, group."""
    grouped = any(sample.group for sample in split.part("all"))
    # surrogateescape preserves file names that are not UTF-8.
    with atomic_write(path, newline="", errors="surrogateescape") as file:
        head = ["path", "labels" if split.multilabel else "label", "split", *(["group"] if grouped else [])]
        rows = (
            [sample.path, sample.label, name, *([sample.group] if grouped else [])]
            for name in SPLITS
            for sample in split.part(name)
        )
        write_csv(file, [head, *rows])


def read_split(path: Path, root: Path, classes: Sequence[str]) -> Split:
    """Return the split that :func:`write_split` wrote; ``classes`` are in the order of the logits.

    Raises:
        DataError: if the file is missing or damaged.
    """
    parts: dict[str, list[Sample]] = {name: [] for name in SPLITS}
    known = frozenset(classes)
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            multilabel = "labels" in (rows.fieldnames or ())
            column = "labels" if multilabel else "label"
            for row in rows:
                if None in row.values() or None in row:
                    raise ValueError(f"line {rows.line_num} is cut off, or has too many cells")
                cells = {name: unescape_formula(cell) for name, cell in row.items()}
                sample = Sample(cells["path"], cells[column], cells.get("group", ""))
                if unknown := set(labels_of(sample, multilabel)) - known:
                    raise ValueError(f"{min(unknown)!r} is not a class of the model")
                parts[row["split"]].append(sample)
        if not parts["train"] or not parts["val"]:
            raise ValueError("it lists no images")
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the split {path} ({error!r}): the run folder is incomplete") from error
    return Split(root, tuple(classes), parts["train"], parts["val"], parts["test"], multilabel)


def require_images(split: Split) -> None:
    """Check that the images of a split exist.

    Raises:
        DataError: naming the first that are missing.
    """
    samples = (sample for name in SPLITS for sample in split.part(name))
    root = str(split.root)
    if missing := [sample.path for sample in samples if not os.path.isfile(os.path.join(root, sample.path))]:
        raise DataError(
            f"{len(missing)} images of the run are not in {split.root}: "
            f"give the folder they are in now with data.root=...\n{listing(missing, 3)}"
        )
