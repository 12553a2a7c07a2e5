"""Arguments that several commands share."""

from __future__ import annotations

import argparse


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


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    return _at_least(1, text)


def natural(text: str) -> int:
    """Parse an integer of at least 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is not at least {least}")
    return value
