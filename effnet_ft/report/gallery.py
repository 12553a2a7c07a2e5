"""Pictures of single images: the surest mistakes, the least certain right answers, and where the network looks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from effnet_ft.report.contents import RunContents
from effnet_ft.report.html_formats import DASH, picture, show

SHOWN = 12


def mistakes(run: RunContents) -> str:
    """The mistakes with the highest probability; of several labels, with the most wrong."""
    wrong = run.mistakes
    order = "those with the most wrong labels" if run.multilabel else "the surest"
    intro = f"{len(wrong):,} of {len(run.predictions):,} {run.split_word} images are mistaken; {order} come first."
    return f"<p>{intro}</p>{_gallery(run, wrong[:SHOWN])}"


def uncertain(run: RunContents) -> str:
    """The right answers with the lowest probability; nothing where images have several labels."""
    if run.multilabel:
        return ""
    right = np.flatnonzero(run.true == run.guessed)
    least = right[np.argsort(run.probability[right], kind="stable")][:SHOWN]
    intro = f"{len(right):,} of {len(run.predictions):,} {run.split_word} images are told rightly; "
    return f"<p>{intro}the least certain come first.</p>{_gallery(run, least.tolist())}"


def _gallery(run: RunContents, numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    rows = [run.predictions[number] for number in numbers]
    heat = run.pictures.explained([row.path for row in rows])
    html = ""
    for row in rows:
        sources = heat.get(row.path, (run.pictures.thumbnail(row.path),))
        html += f'<figure><div class="views">{"".join(map(picture, sources))}</div>'
        html += f"<figcaption><b>{escape(row.label or DASH)}</b>"
        html += f"<br>taken for {escape(row.prediction or DASH)}" if row.wrong else ""
        html += "" if run.multilabel else f", {show(row.probability, '.1%')}"
        html += f"<small>{escape(row.path)}</small></figcaption></figure>"
    note = (
        "<p>Left: what the network sees of the image. Right: where it looks for its answer, by Grad-CAM, "
        "the brighter the more.</p>"
        if heat
        else "<p>Without Grad-CAM: the run's checkpoint or its images could not be read.</p>"
    )
    return f'{note}<div class="mistakes{" wide" if heat else ""}">{html}</div>'
