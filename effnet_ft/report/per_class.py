"""Precision, recall and F1 of each class, and how many images it has."""

from __future__ import annotations

from typing import Any

import numpy as np

from effnet_ft.report.contents import SPLITS, RunContents
from effnet_ft.report.formats import TableCell, number, number_cell, percent, percent_cell


def per_class(run: RunContents) -> dict[str, Any]:
    """Return the table of precision, recall, F1 and the number of images of each class."""
    rows = []
    for name, scores, images in zip(run.classes, class_scores(run.class_counts), run.class_counts[:, 1], strict=True):
        precision, recall, f1 = scores.tolist()
        f1_cell = TableCell(f1, percent(f1), bar=float(np.nan_to_num(f1)))
        rows.append((name, [percent_cell(precision), percent_cell(recall), f1_cell, number_cell(images)]))
    return {"head": ("Label" if run.multilabel else "Class", "Precision", "Recall", "F1", "Images"), "rows": rows}


def class_scores(class_counts: np.ndarray) -> np.ndarray:
    """Return precision, recall and F1, a row a class; NaN where there is nothing to divide by."""
    correct, true, predicted = class_counts.T
    with np.errstate(invalid="ignore"):
        return np.stack([correct / predicted, correct / true, 2 * correct / (predicted + true)], axis=1)


def class_balance(run: RunContents) -> dict[str, Any]:
    """Return the table of each class's images in each split."""
    most = max(run.split_counts.values(), default=1)
    splits = [split for split in SPLITS if any(key[1] == split for key in run.split_counts)]
    counts = [(name, [run.split_counts[name, split] for split in splits]) for name in run.classes]
    rows = [(name, [TableCell(count, number(count), bar=count / most) for count in row]) for name, row in counts]
    return {"head": ("Class", *(SPLITS[split].capitalize() for split in splits)), "rows": rows}
