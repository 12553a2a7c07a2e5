"""The commands, a module each: its docstring is the help, ``configure`` adds arguments, ``run`` gives an exit code."""
