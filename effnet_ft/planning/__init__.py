"""From a recipe to what will be done: every ``auto`` is decided here."""
