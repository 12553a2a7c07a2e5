"""Write a run's report.html again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from effnet_ft.commands.arguments import add_overrides
from effnet_ft.errors import DataError, RecipeError, UserError

PLACES = ("data.root", "data.images")
"""Where the images lie, which may have changed since the training; nothing else of a run may."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run folder")
    add_overrides(parser, ", where the images lie now; no other key")


def run(options: argparse.Namespace) -> int:
    """Return the exit code."""
    from omegaconf import OmegaConf

    from effnet_ft.inference.predictor import load
    from effnet_ft.report import render, write_page
    from effnet_ft.report.reading import read_run
    from effnet_ft.runs.run_folder import Run, is_run

    if not is_run(options.run):
        raise DataError(f"'{options.run}' is no run folder: it holds no recipe.yaml")
    moved = {}
    for text in options.overrides:
        key, _, value = text.partition("=")
        if key not in PLACES:
            raise RecipeError(f"'{text}' would be another run's: a report takes {' and '.join(PLACES)} alone")
        moved[key.removeprefix("data.")] = value
    try:
        predictor = load(Run(options.run).best)
    except UserError as error:  # the rest of the page needs no checkpoint
        print(f"effnet-ft: without Grad-CAM and training views: {error}", file=sys.stderr)
        predictor = None
    contents = read_run(Path(options.run), predictor, moved)
    page = Path(options.run) / "report.html"
    if not contents.has_images():
        key = "data.images" if OmegaConf.select(contents.recipe, "data.source") == "manifest" else "data.root"
        lost = f"none of the images of {options.run} lie in '{contents.pictures.root}': give {key}=FOLDER"
        if page.exists():
            raise DataError(f"{lost}; {page} was left as it is")
        print(f"effnet-ft: without images: {lost}", file=sys.stderr)
    print(write_page(render(contents), page))
    return 0
