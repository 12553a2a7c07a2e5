"""Rewrite a run's report.html."""

import argparse
import sys
from pathlib import Path

from effnet_ft.commands.arguments import add_overrides, warn_if_unfinished
from effnet_ft.errors import DataError, UserError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    add_overrides(parser, ", where the images are now; no other key")


def run(options: argparse.Namespace) -> int:
    from omegaconf import OmegaConf

    from effnet_ft.inference.load import load
    from effnet_ft.recipe.loading import require_settable
    from effnet_ft.report.contents import read_run
    from effnet_ft.report.run_page import write_run_page
    from effnet_ft.runs.run_folder import Run, is_run

    if not is_run(options.run):
        raise DataError(f"'{options.run}' is not a run folder: it has no recipe.yaml")
    warn_if_unfinished(options.run)
    require_settable(options.overrides, "move", "a report shows the run as it is")
    moved = {key.removeprefix("data."): value for key, _, value in (text.partition("=") for text in options.overrides)}
    try:
        predictor = load(Run(options.run).best)
    except UserError as error:  # the rest of the page needs no checkpoint
        print(f"effnet-ft: without Grad-CAM and training views: {error}", file=sys.stderr)
        predictor = None
    contents = read_run(Path(options.run), predictor, moved)
    page = Path(options.run) / "report.html"
    if not contents.has_images():
        key = "data.images" if OmegaConf.select(contents.recipe, "data.source") == "manifest" else "data.root"
        missing = f"'{contents.thumbnails.root}' holds none of the images of {options.run}: give {key}=FOLDER"
        if page.exists():
            raise DataError(f"{missing}; {page} is unchanged")
        print(f"effnet-ft: without images: {missing}", file=sys.stderr)
    print(write_run_page(contents, page))
    return 0
