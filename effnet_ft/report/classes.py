"""What a report says of each class: how well it is told, and how many images it has."""

from __future__ import annotations

import numpy as np

from effnet_ft.report.contents import SPLITS, RunContents
from effnet_ft.report.html_formats import show, table, with_bar


def classes(run: RunContents) -> str:
    """Precision, recall, F1 and the number of images of each class."""
    rows = []
    for name, scores, count in zip(run.classes, class_scores(run.tallies), run.tallies[:, 1], strict=True):
        shown = [show(score, ".1%") for score in scores]
        shown = [*shown[:2], with_bar(shown[2], scores[2]), f"{count:,}"]
        rows.append((name, list(zip((*scores, count), shown, strict=True))))
    return table(("Label" if run.multilabel else "Class", "Precision", "Recall", "F1", "Images"), rows)


def class_scores(tallies: np.ndarray) -> np.ndarray:
    """Precision, recall and F1, a row a class; NaN where there is nothing to divide by."""
    right, real, guessed = tallies.T
    with np.errstate(invalid="ignore"):
        return np.stack([right / guessed, right / real, 2 * right / (guessed + real)], axis=1)


def class_balance(run: RunContents) -> str:
    """The images of each class in each split."""
    most = max(run.split_counts.values(), default=1)
    splits = [split for split in SPLITS if any(key[1] == split for key in run.split_counts)]
    counts = [(name, [run.split_counts[name, split] for split in splits]) for name in run.classes]
    rows = [(name, [(n, with_bar(f"{n:,}", n / most)) for n in numbers]) for name, numbers in counts]
    return table(("Class", *(SPLITS[split].capitalize() for split in splits)), rows)
