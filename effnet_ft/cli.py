"""The command line: ``effnet-ft COMMAND``; ``python train.py`` is ``effnet-ft train``.

Modules that need torch are imported inside the commands, so that help, tables and recipe errors appear at once.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from effnet_ft import __version__
from effnet_ft.errors import EXIT_INTERRUPTED, EXIT_USER_FAULT, Interrupted, UserError, disk_fault
from effnet_ft.utils.process_settings import protect_output, tune_process
from effnet_ft.utils.text import escape_control_characters

COMMANDS = (
    *("check", "plan", "train", "sweep", "evaluate", "predict", "explain", "report", "compare", "export"),
    *("cache", "models", "recipes", "doctor", "demo"),
)
"""Modules of :mod:`effnet_ft.commands`, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 the user's input is at fault, 130 interrupted."""
    protect_output()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Only the named command's module is imported: others may be slow, or broken in a way that doctor should report.
    parser = build_parser(words[:1] if set(words[:1]) & set(COMMANDS) else COMMANDS)
    options, rest = parser.parse_known_args(words)
    # argparse accepts repeated arguments in one run only; people also write "predict RUN a.jpg --top-k 3 b.jpg".
    repeated: list[str] | None = getattr(options, "overrides", getattr(options, "paths", None))
    if rest and (repeated is None or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if repeated is not None:
        repeated += rest
    options.words = words
    tune_process()
    try:
        return options.act(options) or 0
    except KeyboardInterrupt as error:
        print("; ".join(["effnet-ft: interrupted", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return error.exit_code if isinstance(error, Interrupted) else EXIT_INTERRUPTED
    except (UserError, OSError) as error:
        fault = str(error) if isinstance(error, UserError) else disk_fault(error)
        if fault is None:
            raise
        text = "\n".join([fault, *getattr(error, "__notes__", [])])
        print(f"effnet-ft: {escape_control_characters(text)}", file=sys.stderr)
        return EXIT_USER_FAULT


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the argument parser for the commands ``names``."""
    parser = argparse.ArgumentParser(prog="effnet-ft", description="Fine-tune pretrained EfficientNets on your images.")
    parser.add_argument("--version", action="version", version=f"effnet_ft {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in names:
        module = importlib.import_module(f"effnet_ft.commands.{name}")
        sub = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
        module.configure(sub)
        sub.set_defaults(act=module.run)
    return parser
