"""How numbers, times, tables and pictures are written in a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

DASH = "\N{EN DASH}"
LONG_TABLE = 40  # rows; a longer table scrolls within its frame


def show(value: float, kind: str = ",.0f") -> str:
    """Return a number in a format, a dash where it is not one."""
    return format(value, kind) if math.isfinite(value) else DASH


def duration(seconds: float) -> str:
    """Seconds as a person would say them; a dash where they are not known."""
    if not seconds >= 60:
        return show(seconds, ".1f") + (" s" if math.isfinite(seconds) else "")
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def counted(number: int, one: str) -> str:
    """Return "1 image" or "2 images"."""
    return f"{number:,} {one if number == 1 else one + 's'}"


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[float, str]]]]) -> str:
    """A sortable table: a row is its name and, for each further column, (number to sort by, HTML to show)."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = ""
    for name, cells in rows:
        shown = "".join(f'<td data-value="{value:.6g}">{html}</td>' for value, html in cells)
        body += f'<tr><th scope="row">{escape(name)}</th>{shown}</tr>'
    kind = "scroll tall" if len(rows) > LONG_TABLE else "scroll"
    return f'<div class="{kind}"><table class="data sortable"><thead><tr>{top}</thead><tbody>{body}</table></div>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and what is to be said of them, as plain text."""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in rows)
    return f'<div class="scroll"><table class="data facts"><tbody>{body}</table></div>'


def with_bar(shown: str, share: float) -> str:
    """Return a cell's text with a bar of ``share`` of its full width."""
    width = 100 * share if math.isfinite(share) else 0
    return f'{shown}<span class="bar" aria-hidden="true"><i style="width:{width:.0f}%"></i></span>'


def cards(*listed: tuple[str, ...]) -> str:
    """Headline numbers: of each its name, the number and lines of small print; what is not known is left out."""
    html = ""
    for name, *lines in listed:
        parts = "".join(f"<dd>{line}</dd>" for line in lines if line and not line.endswith(f": {DASH}"))
        html += f'<div class="card"><dt>{name}</dt>{parts}</div>'
    return f'<dl class="cards">{html}</dl>'


def picture(source: str, kind: str = "") -> str:
    """An image by its data URI, a grey field where there is none."""
    kinds = f' class="{kind}"' if kind else ""
    return f'<img{kinds} src="{source}" alt="">' if source else '<span class="none">no image</span>'
