"""The page of a run: its sections in their order. A new one is a function, a line here and a macro in run.html."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from effnet_ft.errors import WeightsError
from effnet_ft.models.weights.resolving import resolve_weights
from effnet_ft.models.weights.table import FAMILIES
from effnet_ft.report.confidence import confidence
from effnet_ft.report.confusion import confused_pairs, confusion_matrix
from effnet_ft.report.contents import SPLITS, RunContents
from effnet_ft.report.formats import cell, count_table, percent
from effnet_ft.report.learning_curves import learning_curves, times
from effnet_ft.report.rendering import Section, write_page
from effnet_ft.report.training_views import training_views
from effnet_ft.utils.text import counted

GALLERY_SIZE = 12


def write_run_page(run: RunContents, target: Path) -> Path:
    """Write the page of a run and return its path."""
    variant = OmegaConf.select(run.recipe, "model.variant") or "unknown variant"
    sizes = (counted(len(run.phases), "phase"), counted(len(run.epochs), "epoch"))
    subtitle = f"{variant} · {counted(len(run.classes), 'class')} · {', '.join(sizes)}"
    return write_page(target, "run.html", run.name, subtitle, sections_of(run))


def sections_of(run: RunContents) -> list[Section]:
    """Return the sections; those without arguments are left out of the page."""
    return [
        Section("Results", "headline", {"run": run}),
        Section("Model card", "model_card", model_card(run)),
        Section("Learning curves", "learning_curves", learning_curves(run)),
        Section("Confusion", "confusion_matrix", confusion_matrix(run)),
        Section("Most confused pairs", "confused_pairs", confused_pairs(run)),
        Section("Classes", "table", per_class(run)),
        Section("Most confident mistakes", "gallery", mistakes(run)),
        Section("Least confident correct predictions", "gallery", uncertain(run)),
        Section("Confidence", "confidence", confidence(run)),
        Section("Class balance", "table", class_balance(run)),
        Section("Training views", "training_views", training_views(run)),
        Section("Recipe", "recipe", {"run": run}),
        Section("Decisions", "decisions", decisions(run)),
        Section("Times", "table", times(run)),
        Section("Seed, versions and machine", "provenance", {"run": run}),
    ]


def model_card(run: RunContents) -> dict[str, Any]:
    """Return the facts of the model card; None for what is not known."""
    model = vars(run.plan.model) if run.plan else OmegaConf.select(run.recipe, "model") or {}
    variant, name, family = (str(model.get(key)) for key in ("variant", "weights", "family"))
    try:
        weights = resolve_weights(variant, name, "auto" if family in ("None", name) else family)
    except (WeightsError, KeyError):
        weights = None
    f1 = np.nan_to_num(class_scores(run.class_counts)[:, 2], nan=1.0)
    worst = [index for index in np.argsort(f1, kind="stable")[:3] if f1[index] < 1]
    return {
        "run": run,
        "variant": model.get("variant"),
        "image_size": run.plan.data.image_size if run.plan else OmegaConf.select(run.recipe, "data.image_size"),
        "counts": [sum(run.split_counts[name, split] for name in run.classes) for split in ("train", "val")],
        "weights_name": name,
        "weights": weights,
        "licence": FAMILIES[weights.family].licence if weights and weights.top1 else "not stated",
        "lowest": [(run.classes[index], float(f1[index])) for index in worst],
        "fewest": int(run.class_counts[:, 1].min()),
    }


def per_class(run: RunContents) -> dict[str, Any]:
    """Return the table of precision, recall, F1 and the number of images of each class."""
    rows = []
    for name, scores, images in zip(run.classes, class_scores(run.class_counts), run.class_counts[:, 1], strict=True):
        precision, recall, f1 = scores.tolist()
        bar = float(np.nan_to_num(f1))
        rows.append((name, [cell(precision, percent), cell(recall, percent), cell(f1, percent, bar), cell(images)]))
    return {"head": ("Label" if run.multilabel else "Class", "Precision", "Recall", "F1", "Images"), "rows": rows}


def class_scores(class_counts: np.ndarray) -> np.ndarray:
    """Return precision, recall and F1, a row a class; NaN where there is nothing to divide by."""
    correct, true, predicted = class_counts.T
    with np.errstate(invalid="ignore"):
        return np.stack([correct / predicted, correct / true, 2 * correct / (predicted + true)], axis=1)


def mistakes(run: RunContents) -> dict[str, Any]:
    """Return the mistakes with the highest probability; of multi-label runs, those with the most wrong labels."""
    first = "most wrong labels" if run.multilabel else "highest probability"
    rank = [row.errors if run.multilabel else row.probability for row in run.predictions]
    indices = sorted(np.flatnonzero(~run.correct).tolist(), key=lambda index: -rank[index])
    return _gallery(run, "misclassified", first, indices)


def uncertain(run: RunContents) -> dict[str, Any] | None:
    """Return the correct predictions with the lowest probability; None for multi-label runs."""
    if run.multilabel:
        return None
    indices = sorted(np.flatnonzero(run.correct).tolist(), key=lambda index: run.probability[index])
    return _gallery(run, "correct", "lowest probability", indices)


def _gallery(run: RunContents, kind: str, first: str, indices: Sequence[int]) -> dict[str, Any]:
    """Return the first predictions, each with its pictures: what the network sees and Grad-CAM, or a thumbnail."""
    rows = [run.predictions[index] for index in indices[:GALLERY_SIZE]]
    gradcam = run.thumbnails.gradcam([row.path for row in rows])
    images = [(row, gradcam.get(row.path) or (run.thumbnails.thumbnail(row.path),)) for row in rows]
    shown = {"count": len(indices), "images": images, "gradcam": bool(gradcam)}
    return {"run": run, "kind": kind, "first": first, **shown}


def class_balance(run: RunContents) -> dict[str, Any]:
    """Return the table of each class's images in each split."""
    splits = [split for split in SPLITS if any(key[1] == split for key in run.split_counts)]
    counts = {name: [run.split_counts[name, split] for split in splits] for name in run.classes}
    return count_table(("Class", *(SPLITS[split].capitalize() for split in splits)), counts)


def decisions(run: RunContents) -> dict[str, Any] | None:
    """Return the plan's decisions for ``auto``, each with its reason, and later changes of the plan."""
    if run.plan is None:
        return None
    values, facts = run.plan.flat(), []
    for key, reason in run.plan.reasons.items():
        phase, _, name = key.rpartition(".")
        # The plan has the value under the key itself, in the optimiser, or as the kind of a source.
        where = next(place for place in (key, f"{phase}.optim.{name}", f"{key}.kind") if place in values)
        facts.append((key, f"{values[where]} ({reason})"))
    return {"facts": [*facts, *(("changed during the run", change) for change in run.plan.changes)]}
