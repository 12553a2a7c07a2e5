"""A model card's paragraph: what a model is, was made from and can be trusted with, from the run's facts alone."""

from __future__ import annotations

import math
from html import escape

import numpy as np
from omegaconf import OmegaConf

from effnet_ft.errors import WeightsError
from effnet_ft.models.weights.resolving import resolve_weights
from effnet_ft.report.classes import class_scores
from effnet_ft.report.contents import RunContents
from effnet_ft.report.headline import bounds
from effnet_ft.report.html_formats import counted, show

LICENCES = {
    "download.openmmlab.com": "mmpretrain, which distributes them, is under the Apache licence 2.0",
    "download.pytorch.org": "torchvision, which distributes them, is under the BSD 3-clause licence",
}
"""What is known of the licence of weights, by where they come from."""


def model_card(run: RunContents) -> str:
    """What the model is, how good it is, and where that ends."""
    paragraphs = (_made(run), _measured(run), _limits(run))
    return "".join(f"<p>{text}</p>" for text in paragraphs)


def _made(run: RunContents) -> str:
    variant, size = (OmegaConf.select(run.recipe, key) for key in ("model.variant", "data.image_size"))
    kind = "an EfficientNet" + (f" ({escape(str(variant))})" if variant else "")
    kind += f" for images of {size} by {size} pixels" if size else ""
    counts = {split: sum(run.split_counts[name, split] for name in run.classes) for split in ("train", "val")}
    task = "give images any of" if run.multilabel else "tell images of"
    what = f"{len(run.classes):,} {'labels' if run.multilabel else 'classes'}"
    unit = "label" if run.multilabel else "image"
    learnt = counted(counts["train"], f"training {unit}")
    chosen = counted(counts["val"], f"validation {unit}")
    return (
        f"<b>{escape(run.name)}</b> is {kind}, trained to {task} {what}. {_weights(run)} "
        f"It was trained on {learnt}; {chosen} chose the epoch that is kept."
    )


def _weights(run: RunContents) -> str:
    """Where the training began."""
    variant, weights, family = (
        str(OmegaConf.select(run.recipe, f"model.{key}")) for key in ("variant", "weights", "family")
    )
    if weights == "none":
        return "It began with random weights."
    try:
        record = resolve_weights(variant, weights, "auto" if family in ("None", weights) else family)
    except (WeightsError, KeyError):
        return f"It began with the weights {escape(weights)}; where they come from is not known."
    if record is None:
        return ""
    licence = LICENCES.get(record.source, "their licence is not stated where they come from")
    top1 = f"; {record.top1:g}% of ImageNet's validation images right, as published" if record.top1 else ""
    return (
        f"It began with pretrained weights, {escape(record.name)} ({escape(record.file)} from "
        f"{escape(record.source)}{top1}; {licence})."
    )


def _measured(run: RunContents) -> str:
    total = counted(len(run.predictions), f"{run.split_word} image")
    name, words = ("map", "a mean average precision of") if run.multilabel else ("acc1", "an accuracy of")
    low, high = bounds(run, name)
    sure = f" (95% interval {low:.1%} to {high:.1%})" if math.isfinite(low) else ""
    text = f"On {total} it reaches {words} <b>{show(run.metric(name), '.1%')}</b>{sure}, "
    text += f"with a macro F1 of {show(run.metric('macro_f1'), '.1%')}."
    scores = class_scores(run.tallies)[:, 2]
    known = np.flatnonzero(np.isfinite(scores))
    flawed = known[scores[known] < 1]
    if len(known) > 1 and len(flawed):
        worst = flawed[np.argsort(scores[flawed], kind="stable")][:3]
        listed = ", ".join(f"{escape(run.classes[place])} ({scores[place]:.1%})" for place in worst)
        text += f" The lowest F1 have {listed}."
    before, after = run.metric("ece_uncalibrated"), run.metric("ece")
    if math.isfinite(before):
        text += f" Its probabilities are calibrated: their expected error is {after:.1%}, before it was {before:.1%}."
    elif math.isfinite(after):
        text += f" Its probabilities are not calibrated: their expected error is {after:.1%}."
    return text


def _limits(run: RunContents) -> str:
    fewest = int(run.tallies[:, 1].min())
    text = "These figures hold for images like those that were measured. "
    if run.split == "val":
        text += "The validation images also chose the epoch that is kept, so new images may fare worse. "
    if not run.multilabel:
        text += f"An image of none of the {len(run.classes):,} classes is given one of them all the same. "
    text += f"The rarest {'label' if run.multilabel else 'class'} was measured on {counted(fewest, 'image')}: "
    return text + "what is said of single ones is the less certain the fewer there are."
