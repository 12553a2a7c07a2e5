"""What ``auto`` stands for in a recipe, as far as the weights and the number of cores decide it."""

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


def resolve(recipe: Recipe) -> None:
    """Replace in place every ``auto`` that the recipe and the number of cores decide."""
    model, data = recipe.model, recipe.data
    variant = VARIANTS[model.variant]
    model.weights = os.path.expanduser(model.weights)
    # A run that is resolved already is loaded again without its weights' file, which may be gone.
    if "auto" in (model.weights, data.image_size, data.crop) or model.weights in FAMILIES:
        _resolve_weights(model, data)
    if model.dropout == "auto":
        model.dropout = variant.dropout
    for phase in recipe.phases:  # a phase's own auto is the recipe's
        own = {"image_size": data.image_size, "dropout": model.dropout}
        phase.overrides.update({key: value for key, value in own.items() if phase.overrides.get(key) == "auto"})
    if data.workers == "auto":
        data.workers = default_workers()
    recipe.run_dir = os.path.expanduser(recipe.run_dir)
    if recipe.run_dir == "auto":
        recipe.run_dir = os.environ.get(RUN_DIR_VARIABLE) or _free_run_dir(data.root, model.variant)


def default_workers() -> int:
    """Return the number of image-reading processes per device where the recipe says ``auto``."""
    # The training process keeps one core busy; more than eight readers a device do not read faster.
    return max(1, min(8, usable_cores() - 1))


def _resolve_weights(model: ModelSettings, data: DataSettings) -> None:
    """Replace the ``auto`` that the weights decide; without weights, or where a file tells, the family stays so."""
    if model.weights == "auto":
        model.weights = default_family(model.variant)
    record = resolve_weights(model.variant, model.weights, model.family)
    view = record.preprocessing if record else scratch_preprocessing(model.variant)
    if record and record.family in FAMILIES:
        model.family = record.family
    data.image_size = view.size if data.image_size == "auto" else data.image_size
    data.crop = view.crop if data.crop == "auto" else data.crop


def _free_run_dir(root: str | None, variant: str) -> str:
    name = os.path.basename(os.path.realpath(root)).removesuffix(".csv") if root else ""
    stem = f"{name[:50] or 'run'}-{variant}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1_000_000))
    return next(str(Path("runs") / name) for name in names if not (Path("runs") / name).exists())
