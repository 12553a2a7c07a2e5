"""The HTML page of an inspection, with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effnet_ft.data.images.decoding import silence_pillow
from effnet_ft.inspection.check_table import change, findings, heading
from effnet_ft.inspection.findings import DuplicateGroup, Inspection
from effnet_ft.inspection.unusual_files import MEANINGS
from effnet_ft.report.formats import TableCell, number
from effnet_ft.report.rendering import Section, render_page, write_page
from effnet_ft.report.thumbnails import Thumbnails

PAGE = "check.html"


def write_check(inspection: Inspection, folder: Path) -> Path:
    """Write the page into ``folder`` and return its path."""
    subtitle = heading(inspection).removeprefix(f"{inspection.root}: ").replace("\n", " · ")
    title = f"Check of {inspection.root.resolve().name}"
    with silence_pillow():  # the template reads the thumbnails
        return write_page(render_page("check.html", title, subtitle, check_sections(inspection)), folder / PAGE)


def check_sections(inspection: Inspection) -> list[Section]:
    """Return the sections of the page; kinds of findings without cases are left out."""
    thumbnail = Thumbnails(inspection.root).thumbnail
    unreadable = [f"{path}: {reason}" for path, reason in inspection.unreadable.items()]

    def listing(title: str, texts: Sequence[str]) -> Section:
        return Section(title, "listing", {"texts": texts} if texts else None)

    def duplicates(title: str, groups: Sequence[DuplicateGroup], meaning: str) -> Section:
        arguments = {"groups": groups, "meaning": meaning, "thumbnail": thumbnail}
        return Section(title, "copies", arguments if groups else None)

    leak = "A model that memorises the training image gets its duplicate right, which inflates the measured accuracy."
    separated = "They are in one folder, but the recipe's random split puts them into different splits."
    unusual = {"kinds": inspection.odd, "meanings": MEANINGS, "thumbnail": thumbnail}
    return [
        Section("Findings", "findings", {"kinds": findings(inspection)}),
        listing("Why training would stop", inspection.refused.splitlines()),
        listing("Unreadable files", unreadable),
        duplicates("Duplicates across splits", inspection.across, leak),
        duplicates("Duplicates with different labels", inspection.contradictory, "One of the labels is wrong."),
        duplicates("Duplicates that the split would separate", inspection.torn, separated),
        duplicates("Other duplicates", inspection.harmless, "They count more than once."),
        Section("Labels", "labels", {"suspects": inspection.suspicions, "change": change, "thumbnail": thumbnail}),
        Section("Unusual files", "unusual_files", unusual if inspection.odd else None),
        Section("Classes", "table", _classes(inspection)),
        listing("Ignored files", inspection.ignored),
    ]


def _classes(inspection: Inspection) -> dict[str, Any]:
    """Return the table of images per class and part."""
    most = max((count for counts in inspection.counts.values() for count in counts.values()), default=1) or 1
    rows = [
        (name, [TableCell(counts[part], number(counts[part]), bar=counts[part] / most) for part in inspection.parts])
        for name, counts in inspection.counts.items()
    ]
    titles = ["Images" if part == "all" else part.capitalize() for part in inspection.parts]
    return {"head": ["Class", *titles], "rows": rows}
