"""An inspection as one self-contained page with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from effnet_ft.data.images.decoding import silence_pillow
from effnet_ft.errors import MachineError
from effnet_ft.inspection.check_table import Line, change, findings, heading
from effnet_ft.inspection.findings import DuplicateGroup, Inspection
from effnet_ft.inspection.unusual_files import MEANINGS
from effnet_ft.report import frame, write_page
from effnet_ft.report.html_formats import counted, table, with_bar
from effnet_ft.report.thumbnails import Thumbnails

PAGE = "check.html"

GROUPS_SHOWN = 100
MEMBERS_SHOWN = 8
DOUBTS_SHOWN = 100
ODD_SHOWN = 12
LISTED = 200


def make_folder(folder: Path) -> None:
    """Make the folder of a page, before the work that would be lost.

    Raises:
        MachineError: where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot make the folder {folder} ({error}): name another one with --out") from error


def write_check(inspection: Inspection, folder: Path) -> Path:
    """Write the page into ``folder`` and return its path.

    Raises:
        MachineError: where it cannot be written.
    """
    try:
        with silence_pillow():
            return write_page(render(inspection), folder / PAGE)
    except OSError as error:
        raise MachineError(f"cannot write the page to {folder} ({error}): name another folder with --out") from error


def render(inspection: Inspection) -> str:
    """Return the whole page; sections without a case are left out."""
    pictures = Thumbnails(inspection.root)
    apart = [group for group in inspection.copies if not (group.across or group.contradictory)]
    copies = {
        "Copies across parts": (inspection.across, "What was learned by heart is then measured again."),
        "Copies under different labels": (inspection.contradictory, "One of the labels is wrong."),
        "Copies that a training divides": (
            [group for group in apart if group.torn],
            "They lie in one part, but the recipe's seed puts them on both sides of a split.",
        ),
        "Other copies": ([group for group in apart if not group.torn], "They count more than once."),
    }
    sections = {
        "Findings": _style() + _summary(findings(inspection)),
        "What a training refuses": _list(inspection.refused.splitlines()),
        "Files that cannot be read": _list([f"{path}: {reason}" for path, reason in inspection.unreadable.items()]),
        **{title: _copies(pictures, groups, intro) for title, (groups, intro) in copies.items()},
        "Labels": _doubts(pictures, inspection),
        "Odd files": _odd(pictures, inspection),
        "Classes": _classes(inspection),
        "Files passed over": _list(inspection.ignored),
    }
    subtitle = heading(inspection).removeprefix(f"{inspection.root}: ").replace("\n", " · ")
    title = f"Check of {inspection.root.resolve().name}"
    return frame(title, subtitle, {name: html for name, html in sections.items() if html})


def _style() -> str:
    return f"<style>\n{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}</style>"


def _summary(lines: Sequence[Line]) -> str:
    rows = ""
    for line in lines:
        if line.cases or line.serious:
            kind = ' class="serious"' if line.serious and line.cases else ""
            advice = f": {escape(line.advice)}" if line.cases else ""
            rows += f'<tr><th scope="row"><span{kind}>{escape(line.what)}</span></th>'
            rows += f"<td><b>{len(line.cases):,}</b>{advice}</td></tr>"
    return f'<div class="scroll"><table class="data facts"><tbody>{rows}</tbody></table></div>'


def _copies(pictures: Thumbnails, groups: Sequence[DuplicateGroup], intro: str) -> str:
    if not groups:
        return ""
    html = ""
    for group in groups[:GROUPS_SHOWN]:
        figures = "".join(
            _figure(
                pictures, image.path, f"<b>{escape(image.label)}</b> {_tag(image.fate if group.torn else image.part)}"
            )
            for image in group.images[:MEMBERS_SHOWN]
        )
        more = len(group.images) - MEMBERS_SHOWN
        html += f'<div class="figures">{figures}{f"and {more:,} more" if more > 0 else ""}</div>'
    count = counted(len(groups), "photograph") + _first(groups, GROUPS_SHOWN)
    return f'<p>{count}. {intro}</p><div class="groups">{html}</div>'


def _doubts(pictures: Thumbnails, inspection: Inspection) -> str:
    if inspection.suspicions is None:
        return "<p>Not judged: the check was made without the network (--quick).</p>"
    if not inspection.suspicions:
        return "<p>No label is less likely than another.</p>"
    html = ""
    for doubt in inspection.suspicions[:DOUBTS_SHOWN]:
        text = escape(change(doubt))
        shown = f'<span class="serious">{text}</span>' if doubt.strong else text
        html += _figure(pictures, doubt.image.path, f"{shown} {_tag(doubt.image.part)}")
    count = counted(len(inspection.suspicions), "label") + _first(inspection.suspicions, DOUBTS_SHOWN)
    intro = (
        "less likely than another, to a classifier on a pretrained network's features that saw neither the image nor a "
        "copy of it. The most doubtful come first; of those in colour it is as sure as of images with right labels."
    )
    return f'<p>{count} {intro}</p><div class="figures">{html}</div>'


def _odd(pictures: Thumbnails, inspection: Inspection) -> str:
    html = ""
    for kind, files in inspection.odd.items():
        html += f"<h3>{escape(kind)}: {len(files):,}</h3><p>{escape(MEANINGS[kind])}</p>"
        figures = "".join(_figure(pictures, path, escape(detail)) for path, detail in files[:ODD_SHOWN])
        html += f'<div class="figures">{figures}</div>'
        html += _list([path for path, _ in files[ODD_SHOWN:]])
    return html


def _classes(inspection: Inspection) -> str:
    parts = list(inspection.parts)
    most = max((count for counts in inspection.counts.values() for count in counts.values()), default=1) or 1
    rows = [
        (name, [(counts[part], with_bar(f"{counts[part]:,}", counts[part] / most)) for part in parts])
        for name, counts in inspection.counts.items()
    ]
    return table(("Class", *("Images" if part == "all" else part.capitalize() for part in parts)), rows)


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[:LISTED])
    more = f"<p>and {len(lines) - LISTED:,} more</p>" if len(lines) > LISTED else ""
    return f"<ul>{items}</ul>{more}" if lines else ""


def _first(items: Sequence[object], most: int) -> str:
    return f", the first {most} of them shown" if len(items) > most else ""


def _tag(part: str) -> str:
    return f'<span class="part {part}">{part}</span>' if part != "all" else ""


def _figure(pictures: Thumbnails, path: str, caption: str) -> str:
    data = pictures.thumbnail(path)
    picture = f'<img src="{data}" alt="" loading="lazy">' if data else '<div class="none">no image</div>'
    return f"<figure>{picture}<figcaption>{caption}<small>{escape(path)}</small></figcaption></figure>"
