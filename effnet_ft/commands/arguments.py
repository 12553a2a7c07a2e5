"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add ``RECIPE``."""
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a name that 'effnet-ft recipes' lists")


def add_overrides(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add ``key=value ...``, with ``more`` at the end of its help."""
    text = f"recipe keys to set, e.g. data.root=photos{more}"
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=text)  # or it would be required


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add ``RUN``."""
    parser.add_argument("run", metavar="RUN", help="a run folder, a checkpoint or an exported model")


def at_least(minimum: int) -> Callable[[str], int]:
    """Return the ``type`` of an argument that is an integer of at least ``minimum``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is not at least {minimum}")
        return value

    return integer
