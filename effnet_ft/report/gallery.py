"""Galleries of single images: the most confident mistakes, and the least confident correct predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from effnet_ft.report.contents import RunContents

SHOWN = 12


def mistakes(run: RunContents) -> dict[str, Any]:
    """Return the mistakes with the highest probability; of several labels, those with the most wrong."""
    rank = [row.errors if run.multilabel else row.probability for row in run.predictions]
    return _gallery(run, sorted(np.flatnonzero(~run.correct).tolist(), key=lambda index: -rank[index]))


def uncertain(run: RunContents) -> dict[str, Any] | None:
    """Return the correct predictions with the lowest probability; nothing where images have several labels."""
    if run.multilabel:
        return None
    correct = np.flatnonzero(run.true == run.predicted)
    return _gallery(run, correct[np.argsort(run.probability[correct], kind="stable")].tolist())


def _gallery(run: RunContents, indices: Sequence[int]) -> dict[str, Any]:
    """Return the first predictions, each with its pictures: what the network sees and Grad-CAM, or a thumbnail."""
    rows = [run.predictions[index] for index in indices[:SHOWN]]
    gradcam = run.thumbnails.gradcam([row.path for row in rows])
    images = [(row, gradcam.get(row.path) or (run.thumbnails.thumbnail(row.path),)) for row in rows]
    return {"run": run, "count": len(indices), "images": images, "gradcam": bool(gradcam)}
