"""Galleries of single images: the most confident mistakes, and the least confident correct predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effnet_ft.report.contents import Prediction, RunContents

SHOWN = 12


@dataclass(frozen=True)
class Gallery:
    """Some of the predicted images.

    Attributes:
        run: the run.
        count: images of the kind.
        images: those shown, each with its pictures as data URIs: what the network sees and, by Grad-CAM, where it
            looks; or a thumbnail alone, empty where it cannot be read.
        gradcam: whether any has Grad-CAM.
    """

    run: RunContents
    count: int
    images: Sequence[tuple[Prediction, Sequence[str]]]
    gradcam: bool


def mistakes(run: RunContents) -> Gallery:
    """Return the mistakes with the highest probability; of several labels, those with the most wrong."""
    return _gallery(run, run.mistakes)


def uncertain(run: RunContents) -> Gallery | None:
    """Return the correct predictions with the lowest probability; nothing where images have several labels."""
    if run.multilabel:
        return None
    correct = np.flatnonzero(run.true == run.predicted)
    return _gallery(run, correct[np.argsort(run.probability[correct], kind="stable")].tolist())


def _gallery(run: RunContents, indices: Sequence[int]) -> Gallery:
    rows = [run.predictions[index] for index in indices[:SHOWN]]
    explained = run.thumbnails.explained([row.path for row in rows])
    images = [(row, explained.get(row.path) or (run.thumbnails.thumbnail(row.path),)) for row in rows]
    return Gallery(run, len(indices), images, bool(explained))
