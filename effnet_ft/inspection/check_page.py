"""The page of an inspection, with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effnet_ft.data.images.decoding import silence_pillow
from effnet_ft.errors import MachineError
from effnet_ft.inspection.check_table import change, findings, heading
from effnet_ft.inspection.findings import DuplicateGroup, Inspection
from effnet_ft.inspection.unusual_files import MEANINGS
from effnet_ft.report.formats import number
from effnet_ft.report.rendering import Section, render_page, write_page
from effnet_ft.report.sortable_table import SortableTable, TableCell
from effnet_ft.report.thumbnails import Thumbnails

PAGE = "check.html"

GROUPS_SHOWN = 100
MEMBERS_SHOWN = 8
LABELS_SHOWN = 100
UNUSUAL_SHOWN = 12
LINES_SHOWN = 200


@dataclass(frozen=True)
class Figure:
    """An image of the page.

    Attributes:
        path: of the image.
        picture: its data URI; empty where it cannot be read.
        caption: what is said of it.
        part: its part, or the one that a training would put it in; ``all`` where there are none.
        strong: the caption stands out.
    """

    path: str
    picture: str
    caption: str
    part: str = "all"
    strong: bool = False


@dataclass(frozen=True)
class FirstOf:
    """The first of several items, with the number of all."""

    items: Sequence[Any]
    total: int

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.total - len(self.items)


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
    subtitle = heading(inspection).removeprefix(f"{inspection.root}: ").replace("\n", " · ")
    title = f"Check of {inspection.root.resolve().name}"
    try:
        with silence_pillow():
            sections = check_sections(inspection)
        return write_page(render_page("check.html", title, subtitle, sections), folder / PAGE)
    except OSError as error:
        raise MachineError(f"cannot write the page to {folder} ({error}): name another folder with --out") from error


def check_sections(inspection: Inspection) -> list[Section]:
    """Return the sections of the page; kinds of findings without a case are left out."""
    thumbnails = Thumbnails(inspection.root)
    rest = [group for group in inspection.copies if not (group.across or group.contradictory)]
    unreadable = [f"{path}: {reason}" for path, reason in inspection.unreadable.items()]
    return [
        Section("Findings", "findings", [kind for kind in findings(inspection) if kind.cases or kind.serious]),
        Section("What a training refuses", "lines", _lines(inspection.refused.splitlines())),
        Section("Files that cannot be read", "lines", _lines(unreadable)),
        Section("Copies across parts", "copies_across", _copies(thumbnails, inspection.across)),
        Section("Copies under different labels", "copies_contradictory", _copies(thumbnails, inspection.contradictory)),
        Section(
            "Copies that a training divides",
            "copies_divided",
            _copies(thumbnails, [group for group in rest if group.torn]),
        ),
        Section("Other copies", "copies_other", _copies(thumbnails, [group for group in rest if not group.torn])),
        Section("Labels", "labels", _labels(thumbnails, inspection)),
        Section("Odd files", "unusual_files", _unusual_files(thumbnails, inspection)),
        Section("Classes", "table", _classes(inspection)),
        Section("Files passed over", "lines", _lines(inspection.ignored)),
    ]


def _lines(texts: Sequence[str]) -> FirstOf | None:
    return FirstOf(texts[:LINES_SHOWN], len(texts)) if texts else None


def _copies(thumbnails: Thumbnails, groups: Sequence[DuplicateGroup]) -> FirstOf | None:
    shown = []
    for group in groups[:GROUPS_SHOWN]:
        figures = [
            Figure(image.path, thumbnails.thumbnail(image.path), image.label, image.fate if group.torn else image.part)
            for image in group.images[:MEMBERS_SHOWN]
        ]
        shown.append(FirstOf(figures, len(group.images)))
    return FirstOf(shown, len(groups)) if groups else None


def _labels(thumbnails: Thumbnails, inspection: Inspection) -> tuple[bool, FirstOf]:
    """Return whether labels were judged, and those that are less likely than another."""
    suspicions = inspection.suspicions or []
    figures = [
        Figure(each.image.path, thumbnails.thumbnail(each.image.path), change(each), each.image.part, each.strong)
        for each in suspicions[:LABELS_SHOWN]
    ]
    return inspection.suspicions is not None, FirstOf(figures, len(suspicions))


def _unusual_files(thumbnails: Thumbnails, inspection: Inspection) -> list[tuple[str, str, FirstOf, FirstOf]] | None:
    """Return each kind with its meaning, the first of its files, and the paths of the others."""
    kinds = []
    for kind, files in inspection.odd.items():
        figures = [Figure(path, thumbnails.thumbnail(path), detail) for path, detail in files[:UNUSUAL_SHOWN]]
        others = [path for path, _ in files[UNUSUAL_SHOWN:]]
        kinds.append((kind, MEANINGS[kind], FirstOf(figures, len(files)), FirstOf(others[:LINES_SHOWN], len(others))))
    return kinds or None


def _classes(inspection: Inspection) -> SortableTable:
    most = max((count for counts in inspection.counts.values() for count in counts.values()), default=1) or 1
    rows = [
        (name, [TableCell(counts[part], number(counts[part]), bar=counts[part] / most) for part in inspection.parts])
        for name, counts in inspection.counts.items()
    ]
    return SortableTable(
        ("Class", *("Images" if part == "all" else part.capitalize() for part in inspection.parts)), rows
    )
