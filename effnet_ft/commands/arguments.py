"""Arguments that several commands share, checks of them, and the name of this program in the shell."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from effnet_ft.errors import UsageError


def add_recipe(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add ``RECIPE`` and ``key=value ...``, with ``more`` at the end of its help."""
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a name that 'effnet-ft recipes' lists")
    add_overrides(parser, more)


def add_overrides(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add ``key=value ...``, with ``more`` at the end of its help."""
    text = f"recipe keys to set, e.g. data.root=photos{more}"
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=text)  # or it would be required


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add ``RUN``."""
    parser.add_argument("run", metavar="RUN", help="a run folder, a checkpoint or an exported model")


def add_images(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Add the paths of images."""
    parser.add_argument("paths", nargs="+", metavar=metavar, help="image files, folders, or patterns in quotes")


def at_least(minimum: int) -> Callable[[str], int]:
    """Return the ``type`` of an argument that is an integer of at least ``minimum``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is not at least {minimum}")
        return value

    return integer


def check_outputs(*files: str | None) -> None:
    """Raise a UsageError for a file that cannot be written, before the work that would be lost; None is skipped."""
    for file in filter(None, files):
        folder = Path(file).resolve().parent
        if Path(file).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UsageError(f"cannot write '{file}': name a file in an existing, writable folder")


def warn_if_unfinished(path: str) -> None:
    """Print to standard error how far the run, or the run of a checkpoint, got if its training is unfinished."""
    from effnet_ft.runs.run_folder import Run, is_run

    given = Path(path).expanduser()
    run = Run(given.resolve().parent.parent if given.suffix == ".ckpt" else given)
    if is_run(run.folder) and not run.metrics.is_file():
        resume = shlex.quote(f"resume={run.folder}")
        print(f"effnet-ft: {run.folder} is unfinished: {run.progress}; {resume} resumes it", file=sys.stderr)


def own_command() -> str:
    """Return how to call the console script: by name, or by path if it is not on the PATH."""
    script = Path(sys.executable).with_name("effnet-ft")
    return os.path.relpath(script) if shutil.which(script.name) is None and script.is_file() else script.name
