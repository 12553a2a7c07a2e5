"""The commands, one module each; its docstring is its help. A new one also needs its name in ``effnet_ft.cli``."""
