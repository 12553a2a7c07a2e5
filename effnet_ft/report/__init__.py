"""One self-contained HTML page about a training run, made from the files in its run folder and its images."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from effnet_ft.report.contents import RunContents
from effnet_ft.report.reading import read_run
from effnet_ft.report.sections import sections_of
from effnet_ft.utils.atomic_files import atomic_write_text

if TYPE_CHECKING:
    from effnet_ft.inference.predictor import Predictor


def write_report(run: Path, predictor: Predictor | None = None) -> Path:
    """Write RUN/report.html and return its path. The page loads nothing from elsewhere.

    Args:
        run: the run folder.
        predictor: its model, for what the page shows of the network at work; None leaves that out. What images cannot
            be read are told of by their file names.

    Raises:
        DataError: a file of the run folder is missing or cannot be understood.
    """
    return write_page(render(read_run(Path(run), predictor)), Path(run) / "report.html")


def write_page(page: str, target: Path) -> Path:
    """Write a page and return its path; an older one stays whole until the new one takes its place."""
    # A folder's name need not be valid text, so what UTF-8 cannot hold is replaced.
    atomic_write_text(target, page, errors="replace")
    return target


def render(run: RunContents) -> str:
    """The whole page of a run: the sections in their order."""
    epochs = sum(len(rows) for _, rows in run.phases)
    variant = OmegaConf.select(run.recipe, "model.variant") or "unknown variant"
    subtitle = f"{variant} · {len(run.classes)} classes · {len(run.phases)} phases, {epochs} epochs"
    return frame(run.name, subtitle, sections_of(run))


def frame(title: str, subtitle: str, sections: Mapping[str, str]) -> str:
    """The sections' HTML, by their titles, in the frame of page.html with its style and script."""
    nav = body = ""
    for name, html in sections.items():
        anchor = name.lower().replace(",", "").replace(" ", "-")
        nav += f'<a href="#{anchor}">{name}</a>\n'
        body += f'<section id="{anchor}"><h2>{name}</h2>\n{html}\n</section>\n'
    page, style, script = (
        Path(__file__).with_name(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    return Template(page).substitute(
        title=escape(title), subtitle=escape(subtitle), nav=nav, sections=body, style=style, script=script
    )
