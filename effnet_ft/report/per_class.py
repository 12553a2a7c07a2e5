"""Precision, recall and F1 of each class, and how many images it has."""

from __future__ import annotations

import numpy as np

from effnet_ft.report.contents import SPLITS, RunContents
from effnet_ft.report.formats import number, percent
from effnet_ft.report.sortable_table import SortableTable, TableCell, cells


def per_class(run: RunContents) -> SortableTable:
    """Return precision, recall, F1 and the number of images of each class."""
    rows = []
    for name, scores, total in zip(run.classes, class_scores(run.class_counts), run.class_counts[:, 1], strict=True):
        precision, recall = cells(scores[:2], (percent, percent))
        f1 = TableCell(scores[2], percent(scores[2]), bar=float(np.nan_to_num(scores[2])))
        rows.append((name, [precision, recall, f1, TableCell(total, number(total))]))
    return SortableTable(("Label" if run.multilabel else "Class", "Precision", "Recall", "F1", "Images"), rows)


def class_scores(class_counts: np.ndarray) -> np.ndarray:
    """Return precision, recall and F1, a row a class; NaN where there is nothing to divide by."""
    correct, true, predicted = class_counts.T
    with np.errstate(invalid="ignore"):
        return np.stack([correct / predicted, correct / true, 2 * correct / (predicted + true)], axis=1)


def class_balance(run: RunContents) -> SortableTable:
    """Return the number of images of each class in each split."""
    most = max(run.split_counts.values(), default=1)
    splits = [split for split in SPLITS if any(key[1] == split for key in run.split_counts)]
    rows = []
    for name in run.classes:
        counts = [run.split_counts[name, split] for split in splits]
        rows.append((name, [TableCell(count, number(count), bar=count / most) for count in counts]))
    return SortableTable(("Class", *(SPLITS[split].capitalize() for split in splits)), rows)
