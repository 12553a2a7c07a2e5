"""One self-contained HTML page about a training run, made only from the files in its run folder."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from string import Template

from omegaconf import OmegaConf

from effnet_ft.results.report.contents import Contents, read_run
from effnet_ft.results.report.sections import SECTIONS


def write_report(run: Path, thumbnails: bool = True) -> Path:
    """Write RUN/report.html from the files in the run folder and return its path.

    The page loads nothing from elsewhere. Without `thumbnails`, or where an image cannot be read, a mistake shows its
    file name alone. An older report stays whole until the new one takes its place.

    Raises:
        DataError: a file of the run folder is missing or cannot be understood.
    """
    page = render(read_run(Path(run), thumbnails))
    target = Path(run) / "report.html"
    temporary = target.with_name(f".report.{os.getpid()}.tmp")
    try:
        # A folder's name need not be valid text, so what UTF-8 cannot hold is replaced.
        temporary.write_text(page, encoding="utf-8", errors="replace")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def render(run: Contents) -> str:
    """The whole page: the sections in their order, in the frame of page.html."""
    nav = sections = ""
    for title, section in SECTIONS:
        anchor = title.lower().replace(" ", "-")
        nav += f'<a href="#{anchor}">{title}</a>\n'
        sections += f'<section id="{anchor}"><h2>{title}</h2>\n{section(run)}\n</section>\n'
    epochs = sum(len(rows) for _, rows in run.phases)
    variant = OmegaConf.select(run.recipe, "model.variant") or "unknown variant"
    subtitle = f"{variant} · {len(run.classes)} classes · {len(run.phases)} phases, {epochs} epochs"
    frame = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return frame.substitute(title=escape(run.name), subtitle=escape(subtitle), nav=nav, sections=sections)
