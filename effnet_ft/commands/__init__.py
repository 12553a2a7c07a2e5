"""The commands, one module each: its docstring is the help, ``configure`` declares the arguments, ``run`` returns the
exit code. :data:`effnet_ft.cli.COMMANDS` lists them.
"""
