"""One self-contained HTML page about a training run, made from the files in its run folder and its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from effnet_ft.report.reading import read_run
from effnet_ft.report.rendering import write_page
from effnet_ft.report.run_page import render_run

if TYPE_CHECKING:
    from effnet_ft.inference.predictor import Predictor

__all__ = ["read_run", "render_run", "write_page", "write_report"]


def write_report(run: Path, predictor: Predictor | None = None) -> Path:
    """Write RUN/report.html and return its path.

    Args:
        run: the run folder.
        predictor: its model, for Grad-CAM and training views; None leaves them out.

    Raises:
        DataError: a file of the run folder is missing or cannot be understood.
    """
    return write_page(render_run(read_run(Path(run), predictor)), Path(run) / "report.html")
