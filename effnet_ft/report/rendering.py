"""Writes pages from Jinja2 templates: one environment, and one layout for every page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from effnet_ft.report import formats
from effnet_ft.utils.atomic_files import atomic_write_text
from effnet_ft.utils.text import counted


@dataclass(frozen=True)
class Section:
    """A titled part of a page."""

    title: str  # shown as the heading and in the navigation
    macro: str  # the macro of the page's template that writes it
    arguments: Mapping[str, Any] | None  # of the macro; None leaves the section out

    @property
    def anchor(self) -> str:
        """Its id in the page."""
        return self.title.lower().replace(",", "").replace(" ", "-")


@cache
def environment() -> Environment:
    """Return the environment of the templates, which escapes whatever they print."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (formats.number, formats.percent, formats.duration, counted):
        found.filters[function.__name__] = function
    found.tests["known"] = math.isfinite
    found.globals["DASH"] = formats.DASH
    found.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return found


def write_page(target: Path, template: str, title: str, subtitle: str, sections: Sequence[Section]) -> Path:
    """Atomically write a page whose sections the macros of ``template`` write, and return its path.

    Nothing in it is loaded from elsewhere.
    """
    shown = [section for section in sections if section.arguments is not None]
    base = environment().get_template("base.html")
    page = base.render(template=template, title=title, subtitle=subtitle, sections=shown)
    atomic_write_text(target, page, errors="replace")  # UTF-8 cannot hold every folder's name
    return target
