"""The commands: a module each, whose docstring is its help. A new one is a module and a name in ``effnet_ft.cli``."""
