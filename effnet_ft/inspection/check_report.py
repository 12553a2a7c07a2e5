"""An inspection as text for the terminal, and as an HTML page with thumbnails."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from effnet_ft.data.images.decoding import silence_pillow
from effnet_ft.inspection.file_scan import MEANINGS
from effnet_ft.inspection.findings import DuplicateGroup, Inspection
from effnet_ft.inspection.label_issues import MIN_CLASS_IMAGES
from effnet_ft.report.formats import count_table
from effnet_ft.report.rendering import Section, write_page
from effnet_ft.report.thumbnails import Thumbnails
from effnet_ft.utils.tables import columns
from effnet_ft.utils.text import counted, listing

PAGE = "check.html"


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding."""

    name: str  # what is found
    cases: Sequence[str]  # one text each
    advice: str  # what it means, or what to do
    serious: bool = False  # it invalidates the measured accuracy or stops training
    groups: Sequence[DuplicateGroup] = ()  # the same cases, if they are duplicates


def table(inspection: Inspection, page: Path) -> str:
    """Return the text for the terminal: a heading, a line per kind of finding, and the first cases of each."""
    shown = [kind for kind in findings(inspection) if kind.cases or kind.serious]
    rows = [
        ("!" if kind.serious and kind.cases else " ", kind.name, f"{len(kind.cases):,}", kind.advice * bool(kind.cases))
        for kind in shown
    ]
    parts = [heading(inspection), columns(rows, right=[2])]
    parts += [f"{kind.name}\n{listing(kind.cases)}" for kind in shown if kind.cases]
    verdict = "serious findings, marked by !" if inspection.serious else "nothing serious"
    if inspection.refused:
        parts.append(f"why training would stop\n{listing(inspection.refused.splitlines())}")
        verdict = verdict if inspection.serious else "nothing serious, but training would refuse these images"
    return "\n\n".join([*parts, f"{verdict}; {inspection.seconds:.0f} s; with thumbnails: {page}"])


def write_check(inspection: Inspection, folder: Path) -> Path:
    """Write the page into ``folder`` and return its path."""
    subtitle = heading(inspection).removeprefix(f"{inspection.root}: ").replace("\n", " · ")
    title = f"Check of {inspection.root.resolve().name}"
    with silence_pillow():  # the template reads the thumbnails
        return write_page(folder / PAGE, "check.html", title, subtitle, check_sections(inspection))


def check_sections(inspection: Inspection) -> list[Section]:
    """Return the sections of the page; kinds of findings without cases are left out."""
    kinds, parts = findings(inspection), inspection.parts
    head = ["Class", *("Images" if part == "all" else part.capitalize() for part in parts)]
    counts = {name: [count[part] for part in parts] for name, count in inspection.counts.items()}
    whole = {"inspection": inspection, "thumbnail": Thumbnails(inspection.root).thumbnail}

    def listed(title: str, texts: Sequence[str]) -> Section:
        return Section(title, "listing", {"texts": texts} if texts else None)

    return [
        Section("Findings", "findings", {"kinds": kinds}),
        Section("Label issues", "labels", whole),
        listed("Why training would stop", inspection.refused.splitlines()),
        listed("Unreadable files", kinds[0].cases),
        *(Section(kind.name.capitalize(), "duplicates", {"kind": kind, **whole}) for kind in kinds if kind.groups),
        Section("Unusual files", "unusual_files", {"meanings": MEANINGS, **whole} if inspection.odd else None),
        Section("Classes", "table", count_table(head, counts)),
        listed("Ignored files", inspection.ignored),
    ]


def heading(inspection: Inspection) -> str:
    """Return two lines on the number, formats and sizes of the images."""
    parts = ", ".join(f"{count:,} {part}" for part, count in inspection.parts.items() if part != "all")
    formats = ", ".join(f"{count:,} {name}" for name, count in inspection.formats.items())
    low, median, high = inspection.sides
    sizes = f"short sides {low} to {high} px, median {median}"
    if inspection.smaller:
        sizes += f"; {counted(inspection.smaller, 'image')} smaller than the network's input of {inspection.size} px"
    total = counted(sum(inspection.parts.values()), "image") + (f" ({parts})" if parts else "")
    return (
        f"{inspection.root}: {total} of {counted(len(inspection.counts), 'class')}; {formats}\n"
        f"{sizes}; the largest class has {inspection.imbalance:.1f} times as many images as the smallest"
    )


def findings(inspection: Inspection) -> list[FindingKind]:
    """Return every kind of finding, the most serious first, also those without cases."""
    across = [group for group in inspection.copies if group.across]
    contradictory = [group for group in inspection.copies if group.contradictory]
    rest = [group for group in inspection.copies if not (group.across or group.contradictory)]
    torn, harmless = [group for group in rest if group.torn], [group for group in rest if not group.torn]
    kinds = [
        FindingKind("unreadable files", _lines(inspection.unreadable.items()), "repair or remove them", True),
        _duplicates("duplicates across splits", across, "keep each photograph in one split", True),
        _duplicates("duplicates with different labels", contradictory, "choose one label", True),
    ]
    if inspection.suspicions is not None:
        strong, weak = (
            [f"{each.image.path}: {each.change}" for each in inspection.suspicions if each.strong is strong]
            for strong in (True, False)
        )
        kinds.append(FindingKind("labels that look wrong", strong, "check them"))
        kinds.append(FindingKind("uncertain labels", weak, "most of them are hard images"))
    small = f"classes with fewer than {MIN_CLASS_IMAGES} images"
    ignored = [path for path in inspection.ignored if path not in set(inspection.camera)]
    return [
        *kinds,
        _duplicates("duplicates that the split would separate", torn, "remove them, or give a manifest with groups"),
        _duplicates("other duplicates", harmless, "they count more than once"),
        FindingKind("classes missing in train/", inspection.untrained, "training refuses them"),
        FindingKind(small, _lines(inspection.small.items()), "too few to learn from or to check"),
        *(FindingKind(kind, _lines(files), MEANINGS[kind]) for kind, files in inspection.odd.items()),
        FindingKind("unsupported photographs", inspection.camera, "HEIC and raw formats: save them as JPEG"),
        FindingKind("ignored files", ignored, "no image suffix, or outside the class folders"),
    ]


def _lines(details: Iterable[tuple[str, object]]) -> list[str]:
    return [f"{name}: {detail}" for name, detail in details]


def _duplicates(name: str, groups: Sequence[DuplicateGroup], advice: str, serious: bool = False) -> FindingKind:
    """Return a kind of duplicates: a line per group, with the labels if they differ."""
    lines = []
    for group in groups:
        images = [image.path + f" [{image.label}]" * group.contradictory for image in group.images]
        lines.append(" = ".join(images) + " (exact)" * group.exact)
    return FindingKind(name, lines, advice, serious, groups)
