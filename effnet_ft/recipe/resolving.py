"""Replaces each ``auto`` in a recipe that the weights and the number of cores decide."""

from __future__ import annotations

import os
from pathlib import Path

from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.resolving import default_family, resolve_weights, scratch_preprocessing
from effnet_ft.models.weights.table import FAMILIES
from effnet_ft.recipe.schema import DataSettings, ModelSettings, Recipe
from effnet_ft.utils.machine_resources import usable_cores

RUN_DIR_VARIABLE = "EFFNET_FT_RUN_DIR"
"""Set by the process that starts a run, so that the processes it launches write to the same folder."""


def resolve(recipe: Recipe) -> Recipe:
    """Return the recipe with every such ``auto`` replaced, and ``~`` expanded."""
    model = recipe.model.with_values(weights=os.path.expanduser(recipe.model.weights))
    data = recipe.data
    # A resolved recipe loads without its weights file, which may be gone.
    if "auto" in (model.weights, data.image_size, data.crop) or model.weights in FAMILIES:
        model, data = _resolve_weights(model, data)
    if model.dropout == "auto":
        model = model.with_values(dropout=VARIANTS[model.variant].dropout)
    if data.workers == "auto":
        data = data.with_values(workers=default_workers())
    own = {"image_size": data.image_size, "dropout": model.dropout}  # auto in a phase means the recipe's
    phases = [
        phase.with_values(**{key: value for key, value in own.items() if phase.overrides.get(key) == "auto"})
        for phase in recipe.phases
    ]
    run_dir = os.path.expanduser(recipe.run_dir)
    if run_dir == "auto":
        run_dir = os.environ.get(RUN_DIR_VARIABLE) or _free_run_dir(data.root, model.variant)
    return recipe.with_values(model=model, data=data, phases=phases, run_dir=run_dir)


def default_workers() -> int:
    """Return the number of image-reading processes per device where the recipe says ``auto``."""
    # The training process keeps one core busy; more than eight readers a device do not read faster.
    return max(1, min(8, usable_cores() - 1))


def _resolve_weights(model: ModelSettings, data: DataSettings) -> tuple[ModelSettings, DataSettings]:
    """Replace each ``auto`` that the weights decide; the family stays without weights, or if their file names it."""
    weights = default_family(model.variant) if model.weights == "auto" else model.weights
    record = resolve_weights(model.variant, weights, model.family)
    view = record.preprocessing if record else scratch_preprocessing(model.variant)
    family = record.family if record and record.family in FAMILIES else model.family
    size = view.size if data.image_size == "auto" else data.image_size
    crop = view.crop if data.crop == "auto" else data.crop
    return model.with_values(weights=weights, family=family), data.with_values(image_size=size, crop=crop)


def _free_run_dir(root: str | None, variant: str) -> str:
    name = os.path.basename(os.path.realpath(root)).removesuffix(".csv") if root else ""
    stem = f"{name[:50] or 'run'}-{variant}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1_000_000))
    return next(str(Path("runs") / name) for name in names if not (Path("runs") / name).exists())
