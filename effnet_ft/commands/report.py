"""Write a run's report.html again."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run folder")


def run(options: argparse.Namespace) -> int:
    """Return the exit code."""
    from effnet_ft.results.report import write_report

    print(write_report(Path(options.run)))
    return 0
