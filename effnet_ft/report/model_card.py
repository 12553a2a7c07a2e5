"""The facts of a model card: what the model is, what it was made from, how good it is and where that ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import OmegaConf

from effnet_ft.errors import WeightsError
from effnet_ft.models.weights.resolving import resolve_weights
from effnet_ft.models.weights.table import WeightsRecord
from effnet_ft.report.contents import RunContents
from effnet_ft.report.per_class import class_scores

LICENCES = {
    "download.openmmlab.com": "mmpretrain, which distributes them, is under the Apache licence 2.0",
    "download.pytorch.org": "torchvision, which distributes them, is under the BSD 3-clause licence",
}
"""What is known of the licence of weights, by where they come from."""


def model_card(run: RunContents) -> dict[str, Any]:
    """Return what the card says beside the run's own metrics; None stands for what is not known."""
    model = vars(run.plan.model) if run.plan else OmegaConf.select(run.recipe, "model") or {}
    weights = _weights(model)
    return {
        "run": run,
        "variant": model.get("variant"),
        "image_size": run.plan.data.image_size if run.plan else OmegaConf.select(run.recipe, "data.image_size"),
        "counts": [sum(run.split_counts[name, split] for name in run.classes) for split in ("train", "val")],
        "weights_name": str(model.get("weights")),
        "weights": weights,
        "licence": LICENCES.get(weights.source if weights else "", "their source states no licence"),
        "lowest": _lowest(run),
        "fewest": int(run.class_counts[:, 1].min()),
    }


def _weights(model: Any) -> WeightsRecord | None:
    """Return the record of the weights that the training began with."""
    variant, weights, family = (str(model.get(key)) for key in ("variant", "weights", "family"))
    try:
        return resolve_weights(variant, weights, "auto" if family in ("None", weights) else family)
    except (WeightsError, KeyError):
        return None


def _lowest(run: RunContents) -> list[tuple[str, float]]:
    """Return at most three classes, those with the lowest F1 below 1, and their F1."""
    f1 = class_scores(run.class_counts)[:, 2]
    known = np.flatnonzero(np.isfinite(f1))
    below_one = known[f1[known] < 1] if len(known) > 1 else known[:0]
    worst = below_one[np.argsort(f1[below_one], kind="stable")][:3]
    return [(run.classes[index], float(f1[index])) for index in worst]
