"""One self-contained HTML page about a training run, made from the files in its run folder and its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from effnet_ft.report.contents import read_run
from effnet_ft.report.run_page import write_run_page

if TYPE_CHECKING:
    from effnet_ft.inference.predictor import Predictor


def write_report(run: Path, predictor: Predictor | None = None) -> Path:
    """Write RUN/report.html and return its path; without a predictor it has no Grad-CAM and no training views.

    Raises:
        DataError: a file of the run folder is missing or cannot be understood.
    """
    return write_run_page(read_run(Path(run), predictor), Path(run) / "report.html")
