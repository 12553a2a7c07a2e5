"""The recipe: what is wanted of a run.

``schema`` holds every key, ``loading`` reads a file, ``faults`` checks it, ``plan`` holds what was decided,
``documentation`` describes every key. Free of torch, so that a wrong recipe is refused at once.
"""

from effnet_ft.recipe.loading import find_recipe, load_recipe, recipe_folder
from effnet_ft.recipe.schema import (
    DEFAULT_BATCH,
    SECTIONS,
    DataSettings,
    ModelSettings,
    OptimSettings,
    Phase,
    Recipe,
    StoreSettings,
    TrainerSettings,
    flat,
    per_phase_keys,
)

__all__ = [
    "DEFAULT_BATCH",
    "SECTIONS",
    "DataSettings",
    "ModelSettings",
    "OptimSettings",
    "Phase",
    "Recipe",
    "StoreSettings",
    "TrainerSettings",
    "find_recipe",
    "flat",
    "load_recipe",
    "per_phase_keys",
    "recipe_folder",
]
