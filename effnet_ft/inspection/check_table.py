"""An inspection as text for the terminal: a count per kind of finding, and its first cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from effnet_ft.inspection.findings import DuplicateGroup, Inspection, SuspectLabel
from effnet_ft.inspection.label_issues import MIN_CLASS_IMAGES
from effnet_ft.inspection.unusual_files import MEANINGS
from effnet_ft.utils.tables import columns
from effnet_ft.utils.text import counted, listing

SHOWN = 10
"""Cases of each kind that the terminal lists; the page has more."""


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding."""

    name: str  # what is found
    cases: Sequence[str]  # one text each
    advice: str  # what it means, or what to do
    serious: bool = False  # it invalidates the measured accuracy or stops training


def table(inspection: Inspection, page: Path) -> str:
    """Return the text for the terminal: a heading, a line per kind of finding, and the first cases of each."""
    shown = [kind for kind in findings(inspection) if kind.cases or kind.serious]
    rows = [
        ("!" if kind.serious and kind.cases else " ", kind.name, f"{len(kind.cases):,}", kind.advice * bool(kind.cases))
        for kind in shown
    ]
    parts = [heading(inspection), columns(rows, right=[2])]
    parts += [f"{kind.name}\n{listing(kind.cases, SHOWN)}" for kind in shown if kind.cases]
    verdict = "serious findings, marked by !" if inspection.serious else "nothing serious"
    if inspection.refused:
        parts.append(f"why training would stop\n{listing(inspection.refused.splitlines(), SHOWN)}")
        verdict = verdict if inspection.serious else "nothing serious, but training would refuse these images"
    return "\n\n".join([*parts, f"{verdict}; {inspection.seconds:.0f} s; with thumbnails: {page}"])


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
        f"{inspection.root}: {total} of {len(inspection.counts):,} classes; {formats}\n"
        f"{sizes}; the largest class has {inspection.imbalance:.1f} times as many images as the smallest"
    )


def findings(inspection: Inspection) -> list[FindingKind]:
    """Return every kind of finding, the most serious first, also those without cases."""
    unsupported = set(inspection.camera)
    ignored = [path for path in inspection.ignored if path not in unsupported]
    kinds = [
        FindingKind("unreadable files", _lines(inspection.unreadable.items()), "repair or remove them", True),
        FindingKind("duplicates across splits", _groups(inspection.across), "keep each photograph in one split", True),
        FindingKind("duplicates with different labels", _groups(inspection.contradictory), "choose one label", True),
        FindingKind(
            "duplicates that the split would separate",
            _groups(inspection.torn),
            "remove them, or give a manifest with groups",
        ),
        FindingKind("other duplicates", _groups(inspection.harmless), "they count more than once"),
    ]
    if inspection.suspicions is not None:
        for strong, name, advice in (
            (True, "labels that look wrong", "check them"),
            (False, "uncertain labels", "most of them are hard images"),
        ):
            labels = [label for label in inspection.suspicions if label.strong is strong]
            kinds.append(FindingKind(name, [f"{label.image.path}: {change(label)}" for label in labels], advice))
    small = f"classes with fewer than {MIN_CLASS_IMAGES} images"
    return [
        *kinds,
        FindingKind("classes missing in train/", inspection.untrained, "training refuses them"),
        FindingKind(small, _lines(inspection.small.items()), "too few to learn from or to check"),
        *(FindingKind(kind, _lines(files), MEANINGS[kind]) for kind, files in inspection.odd.items()),
        FindingKind("unsupported photographs", inspection.camera, "HEIC and raw formats: save them as JPEG"),
        FindingKind("ignored files", ignored, "no image suffix, or outside the class folders"),
    ]


def change(suspect: SuspectLabel) -> str:
    """Return what may be wrong with a label, with the probabilities."""
    if suspect.likelier == suspect.label:
        return f"'{suspect.label}' is missing ({suspect.other:.0%})"
    if not suspect.likelier:
        return f"'{suspect.label}' may be wrong ({suspect.given:.0%})"
    return f"{suspect.label} ({suspect.given:.0%}), or {suspect.likelier} ({suspect.other:.0%})?"


def _lines(details: Iterable[tuple[str, object]]) -> list[str]:
    return [f"{name}: {detail}" for name, detail in details]


def _groups(groups: Sequence[DuplicateGroup]) -> list[str]:
    """Return a line per group, with the labels if they differ."""
    lines = []
    for group in groups:
        label = " [{.label}]" if group.contradictory else ""
        lines.append(" = ".join(image.path + label.format(image) for image in group.images) + " (exact)" * group.exact)
    return lines
