"""Write a run's report.html again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from effnet_ft.errors import DataError, UserError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run folder")


def run(options: argparse.Namespace) -> int:
    """Return the exit code."""
    from effnet_ft.results.predict import load
    from effnet_ft.results.report import write_report
    from effnet_ft.results.run import Run, is_run

    if not is_run(options.run):
        raise DataError(f"'{options.run}' is no run folder: it holds no recipe.yaml")
    try:
        predictor = load(Run(options.run).best)
    except UserError as error:  # the rest of the page needs no checkpoint
        print(f"effnet-ft: without Grad-CAM and training views: {error}", file=sys.stderr)
        predictor = None
    print(write_report(Path(options.run), predictor))
    return 0
