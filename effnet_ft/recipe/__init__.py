"""The recipe: what is wanted of a run. Free of torch, so that a wrong recipe is refused at once."""

from effnet_ft.recipe.loading import find_recipe, load_recipe, recipe_folder
from effnet_ft.recipe.schema import DEFAULT_BATCH, SECTIONS, DataSettings, Phase, Recipe, flat, per_phase_keys
