"""From a recipe to a plan: every ``auto`` is decided with its reason, and what the run will take is estimated."""
