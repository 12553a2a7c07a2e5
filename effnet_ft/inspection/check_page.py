"""The page of an inspection, with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effnet_ft.data.images.decoding import silence_pillow
from effnet_ft.errors import MachineError
from effnet_ft.inspection.check_table import change, findings, heading
from effnet_ft.inspection.findings import DuplicateGroup, Inspection
from effnet_ft.inspection.unusual_files import MEANINGS
from effnet_ft.report.formats import TableCell, number
from effnet_ft.report.rendering import Section, render_page, write_page
from effnet_ft.report.thumbnails import Thumbnails

PAGE = "check.html"


def make_folder(folder: Path) -> None:
    """Make the folder of a page before the work that would be lost.

    Raises:
        MachineError: where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot make the folder {folder} ({error}): name another one with --out") from error


def write_check(inspection: Inspection, folder: Path) -> Path:
    """Write the page into ``folder`` and return its path."""
    subtitle = heading(inspection).removeprefix(f"{inspection.root}: ").replace("\n", " · ")
    title = f"Check of {inspection.root.resolve().name}"
    with silence_pillow():  # the template reads the thumbnails
        return write_page(render_page("check.html", title, subtitle, check_sections(inspection)), folder / PAGE)


def check_sections(inspection: Inspection) -> list[Section]:
    """Return the sections of the page; kinds of findings without a case are left out."""
    thumbnail = Thumbnails(inspection.root).thumbnail
    rest = [group for group in inspection.copies if not (group.across or group.contradictory)]
    unreadable = [f"{path}: {reason}" for path, reason in inspection.unreadable.items()]

    def listing(title: str, texts: Sequence[str]) -> Section:
        return Section(title, "listing", {"texts": texts} if texts else None)

    def copies(title: str, groups: Sequence[DuplicateGroup], meaning: str) -> Section:
        found = {"groups": groups, "meaning": meaning, "thumbnail": thumbnail}
        return Section(title, "copies", found if groups else None)

    leak = "Memorised training images inflate the accuracy that is measured on their copies."
    divided = "They lie in one part, but the recipe's seed puts them on both sides of a split."
    unusual = {"kinds": inspection.odd, "meanings": MEANINGS, "thumbnail": thumbnail}
    return [
        Section("Findings", "findings", {"kinds": findings(inspection)}),
        listing("What a training refuses", inspection.refused.splitlines()),
        listing("Files that cannot be read", unreadable),
        copies("Copies across parts", inspection.across, leak),
        copies("Copies under different labels", inspection.contradictory, "One of the labels is wrong."),
        copies("Copies that a training divides", [group for group in rest if group.torn], divided),
        copies("Other copies", [group for group in rest if not group.torn], "They count more than once."),
        Section("Labels", "labels", {"suspects": inspection.suspicions, "change": change, "thumbnail": thumbnail}),
        Section("Odd files", "unusual_files", unusual if inspection.odd else None),
        Section("Classes", "table", _classes(inspection)),
        listing("Files passed over", inspection.ignored),
    ]


def _classes(inspection: Inspection) -> dict[str, Any]:
    """Return the table of each class's images in each part."""
    most = max((count for counts in inspection.counts.values() for count in counts.values()), default=1) or 1
    rows = [
        (name, [TableCell(counts[part], number(counts[part]), bar=counts[part] / most) for part in inspection.parts])
        for name, counts in inspection.counts.items()
    ]
    titles = ["Images" if part == "all" else part.capitalize() for part in inspection.parts]
    return {"head": ["Class", *titles], "rows": rows}
