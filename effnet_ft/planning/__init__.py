"""From a recipe to a plan: every ``auto`` is decided here, with its reason, and what the run will take is estimated.

``planner`` tells the story; each decision has a module: ``weights``, ``devices``, ``phases``, ``batch_size``,
``sources``, ``estimate``. ``facts`` are what is decided by.
"""
