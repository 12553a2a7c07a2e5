"""An inspection as one self-contained page with thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image as Pillow

from effnet_ft.data.images import pillow_silenced, read_reduced
from effnet_ft.errors import DataError
from effnet_ft.inspection.findings import Copies, Image, Inspection
from effnet_ft.inspection.oddities import MEANINGS
from effnet_ft.inspection.table import Line, change, findings, heading
from effnet_ft.results.report import frame, write_page
from effnet_ft.results.report.formats import table, with_bar

PAGE = "check.html"

GROUPS_SHOWN = 100
DOUBTS_SHOWN = 100
ODD_SHOWN = 12
LISTED = 200
THUMBNAIL = 150
"""Short side of a thumbnail, pixels."""

_STYLE = """<style>
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 0 0 1.5rem; }
.pictures figure { width: 9.4rem; }
.pictures img, .pictures .none { width: 100%; aspect-ratio: 1; object-fit: contain; background: #f5f7f8;
  border-radius: 6px; display: grid; place-items: center; font-size: .8rem; }
.pictures figcaption { font-size: .82rem; line-height: 1.35; margin-top: .3rem; overflow-wrap: anywhere;
  color: #1b1f24; }
.pictures small { display: block; color: #59636e; font-size: .75rem; }
.copies { display: flex; flex-wrap: wrap; gap: 1rem; }
.copies .pictures { border: 1px solid #d9dee3; border-radius: 8px; padding: .7rem; margin: 0; gap: .7rem; }
.part { display: inline-block; padding: 0 .4em; border-radius: 4px; background: #e8eef4; font-size: .75rem; }
.part.test { background: #fbe3d3; } .part.val { background: #e6f1df; }
.serious { color: #a33100; font-weight: 600; }
@media print { .pictures figure { break-inside: avoid; } }
</style>"""


def write_check(inspection: Inspection, folder: Path) -> Path:
    """Write the page into ``folder``, which is made, and return its path.

    Raises:
        DataError: where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with pillow_silenced():
            return write_page(render(inspection), folder / PAGE)
    except OSError as error:
        raise DataError(f"cannot write the page to {folder} ({error}): name another folder with --out") from error


def render(inspection: Inspection) -> str:
    """Return the whole page; sections without a case are left out."""
    root = inspection.root
    name = root.resolve().name
    copies = {
        "Copies across parts": (inspection.across, "What a network learned by heart is then measured again."),
        "Copies under different labels": (inspection.contradictory, "One of the labels is wrong."),
        "Copies that a training divides": (
            [group for group in inspection.copies if group.torn and not group.contradictory],
            "The images lie in one part, but the seed of the recipe puts them on both sides of a split.",
        ),
        "Other copies": (
            [group for group in inspection.copies if not (group.across or group.torn or group.contradictory)],
            "They lie in one part under one label: they count more than once.",
        ),
    }
    sections = {
        "Findings": _STYLE + _summary(findings(inspection)),
        "Files that cannot be read": _list([f"{path}: {reason}" for path, reason in inspection.unreadable.items()]),
        **{title: _copies(root, groups, intro) for title, (groups, intro) in copies.items()},
        "Labels": _doubts(inspection),
        "Odd files": _odd(inspection),
        "Classes": _classes(inspection),
        "Files passed over": _list(inspection.ignored),
    }
    subtitle = heading(inspection).removeprefix(f"{root}: ").replace("\n", " · ")
    return frame(f"Check of {name}", subtitle, {title: html for title, html in sections.items() if html})


def _summary(lines: Sequence[Line]) -> str:
    rows = ""
    for line in lines:
        if line.cases or line.serious:
            kind = ' class="serious"' if line.serious and line.cases else ""
            rows += f"<tr><th scope='row'><span{kind}>{escape(line.what)}</span></th><td>{len(line.cases):,}</td>"
            rows += (
                f'<td style="text-align:left;white-space:normal">{escape(line.advice) if line.cases else ""}</td></tr>'
            )
    return f'<div class="scroll"><table class="data"><tbody>{rows}</tbody></table></div>'


def _copies(root: Path, groups: Sequence[Copies], intro: str) -> str:
    if not groups:
        return ""
    html = ""
    for group in groups[:GROUPS_SHOWN]:
        figures = "".join(
            _figure(root, image, f"<b>{escape(image.label)}</b> {_part(image, group.torn)}")
            for image in group.images[:8]
        )
        more = f"<p>and {len(group.images) - 8} more</p>" if len(group.images) > 8 else ""
        html += f'<div class="pictures">{figures}{more}</div>'
    count = f"{len(groups):,} groups" if len(groups) > 1 else "One group"
    return f'<p>{count}{_first(groups, GROUPS_SHOWN)}. {intro}</p><div class="copies">{html}</div>'


def _doubts(inspection: Inspection) -> str:
    if inspection.suspicions is None:
        return "<p>Not judged: the check was made without the network (--quick).</p>"
    if not inspection.suspicions:
        return "<p>No label is less likely than another.</p>"
    intro = (
        "What a classifier that never saw the image, nor a copy of it, makes of the features of a pretrained network. "
        "The most doubtful come first; those in red are as sure as of images whose labels are right."
    )
    html = ""
    for doubt in inspection.suspicions[:DOUBTS_SHOWN]:
        text = escape(change(doubt))
        shown = f'<span class="serious">{text}</span>' if doubt.strong else text
        html += _figure(inspection.root, doubt.image, f"{shown} {_part(doubt.image)}")
    count = f"{len(inspection.suspicions):,} labels{_first(inspection.suspicions, DOUBTS_SHOWN)}"
    return f'<p>{count}. {intro}</p><div class="pictures">{html}</div>'


def _odd(inspection: Inspection) -> str:
    html = ""
    for kind, files in inspection.odd.items():
        html += f"<h3>{escape(kind)}: {len(files):,}</h3><p>{escape(MEANINGS[kind])}</p>"
        figures = "".join(
            _figure(inspection.root, Image(path, "", "", ""), escape(detail)) for path, detail in files[:ODD_SHOWN]
        )
        html += f'<div class="pictures">{figures}</div>'
        if files[ODD_SHOWN:]:
            html += _list([path for path, _ in files[ODD_SHOWN:]])
    return html


def _classes(inspection: Inspection) -> str:
    parts = [*inspection.parts]
    most = max((count for counts in inspection.counts.values() for count in counts.values()), default=1) or 1
    rows = [
        (name, [(counts[part], with_bar(f"{counts[part]:,}", counts[part] / most)) for part in parts])
        for name, counts in inspection.counts.items()
    ]
    return table(("Class", *(part.capitalize() for part in parts)), rows)


def _list(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}" for line in lines[:LISTED])
    return f"<ul>{items}</ul>" + (f"<p>and {len(lines) - LISTED:,} more</p>" if len(lines) > LISTED else "")


def _first(items: Sequence[object], most: int) -> str:
    return f", the first {most} of them" if len(items) > most else ""


def _part(image: Image, fate: bool = False) -> str:
    part = image.fate if fate else image.part
    return f'<span class="part {part}">{part}</span>' if part != "all" else ""


def _figure(root: Path, image: Image, caption: str) -> str:
    data = _thumbnail(root, image.path)
    picture = f'<img src="{data}" alt="" loading="lazy">' if data else '<div class="none">no image</div>'
    return f"<figure>{picture}<figcaption>{caption}<small>{escape(image.path)}</small></figcaption></figure>"


def _thumbnail(root: Path, path: str) -> str:
    """Return an image as a data URI, or nothing where it cannot be shown."""
    try:
        small = Pillow.fromarray(read_reduced(root / path, THUMBNAIL))
    except DataError:
        return ""
    small.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
