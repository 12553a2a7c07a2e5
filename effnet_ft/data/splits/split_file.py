"""The split of a run as a file: written once, read back by all that use the run later."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from effnet_ft.data.sources.source import SPLITS, Sample, labels_of
from effnet_ft.data.splits.split import Split
from effnet_ft.errors import DataError
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.tables import unguarded, write_csv
from effnet_ft.utils.text import listing


def write_split(split: Split, path: Path) -> None:
    """Write ``split`` as CSV with the columns path, label or labels, split and, where there are groups, group.

    It is a manifest too, as of :mod:`effnet_ft.data.sources.manifest`.
    """
    grouped = any(sample.group for sample in split.part("all"))
    # The error handler of file names: a name that is not UTF-8 is written and read back as it lies on disk.
    with atomic_write(path, newline="", errors="surrogateescape") as file:
        head = ["path", "labels" if split.multilabel else "label", "split", *(["group"] if grouped else [])]
        rows = (
            [sample.path, sample.label, name, *([sample.group] if grouped else [])]
            for name in SPLITS
            for sample in split.part(name)
        )
        write_csv(file, [head, *rows])


def read_split(path: Path, root: Path, classes: Sequence[str]) -> Split:
    """Return the split that :func:`write_split` wrote.

    Args:
        path: the CSV file.
        root: the folder that its paths are relative to.
        classes: names, in the order of the model's logits.

    Raises:
        DataError: where the file is missing or damaged.
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
                sample = Sample(unguarded(row["path"]), unguarded(row[column]), unguarded(row.get("group", "")))
                if strange := set(labels_of(sample, multilabel)) - known:
                    raise ValueError(f"{min(strange)!r} is not a class of the model")
                parts[row["split"]].append(sample)
        if not parts["train"] or not parts["val"]:
            raise ValueError("it lists no images")
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the split {path} ({error!r}): the run folder is incomplete") from error
    return Split(root, tuple(classes), parts["train"], parts["val"], parts["test"], multilabel)


def require_images(split: Split) -> None:
    """Refuse a split whose images are not, or no longer, in its root.

    Raises:
        DataError: naming the first of them.
    """
    samples = (sample for name in SPLITS for sample in split.part(name))
    root = str(split.root)
    if gone := [sample.path for sample in samples if not os.path.isfile(os.path.join(root, sample.path))]:
        raise DataError(
            f"{len(gone)} images of the run are not in {split.root}: "
            f"give the folder they lie in now with data.root=...\n{listing(gone, 3)}"
        )
