"""An inspection as text for the terminal: the kinds of findings, their numbers, and the first cases of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effnet_ft.inspection.findings import DuplicateGroup, Inspection, SuspectLabel
from effnet_ft.inspection.label_issues import FEWEST
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
    serious: bool = False  # it invalidates the measured accuracy or stops a training


def table(inspection: Inspection, page: Path) -> str:
    """Return what the terminal shows: a heading, a line for each kind of finding, and the first cases of each."""
    shown = [kind for kind in findings(inspection) if kind.cases or kind.serious]
    rows = [
        ("!" if kind.serious and kind.cases else " ", kind.name, f"{len(kind.cases):,}", kind.advice * bool(kind.cases))
        for kind in shown
    ]
    parts = [heading(inspection), columns(rows, right=[2])]
    parts += [f"{kind.name}\n{listing([*kind.cases], SHOWN)}" for kind in shown if kind.cases]
    verdict = "serious findings, marked by !" if inspection.serious else "nothing serious"
    if inspection.refused:
        parts.append(f"what a training refuses\n{listing(inspection.refused.splitlines(), SHOWN)}")
        verdict = verdict if inspection.serious else "nothing serious, but a training refuses the images as they are"
    return "\n\n".join([*parts, f"{verdict}; {inspection.seconds:.0f} s; with pictures: {page}"])


def heading(inspection: Inspection) -> str:
    """Return how many images there are, of which kind and size."""
    parts = ", ".join(f"{count:,} {part}" for part, count in inspection.parts.items() if part != "all")
    formats = ", ".join(f"{count:,} {name}" for name, count in inspection.formats.items())
    low, middle, high = inspection.sides
    sizes = f"short sides {low} to {high} px, median {middle}"
    if inspection.smaller:
        sizes += f"; {counted(inspection.smaller, 'image')} smaller than the network's input of {inspection.size} px"
    total = counted(sum(inspection.parts.values()), "image") + (f" ({parts})" if parts else "")
    return (
        f"{inspection.root}: {total} of {len(inspection.counts):,} classes; {formats}\n"
        f"{sizes}; the largest class has {inspection.imbalance:.1f} times the images of the smallest"
    )


def findings(inspection: Inspection) -> list[FindingKind]:
    """Return every kind of finding, in the order of weight; those without a case too."""
    unreadable = [f"{path}: {reason}" for path, reason in inspection.unreadable.items()]
    rest = [copies for copies in inspection.copies if not (copies.across or copies.contradictory)]
    divided, others = ([group for group in rest if group.torn is torn] for torn in (True, False))
    camera = set(inspection.camera)
    ignored = [path for path in inspection.ignored if path not in camera]
    small = [f"{name}: {count}" for name, count in inspection.small.items()]
    kinds = [
        FindingKind("files that cannot be read", unreadable, "repair or remove them", True),
        FindingKind("copies across parts", _copies(inspection.across), "keep each photograph in one part", True),
        FindingKind("copies under different labels", _copies(inspection.contradictory), "decide for one label", True),
        FindingKind("copies that a training divides", _copies(divided), "remove them, or give a manifest with groups"),
        FindingKind("other copies", _copies(others), "they count more than once"),
    ]
    if inspection.suspicions is not None:
        for strong, name, advice in (
            (True, "labels that look wrong", "check them"),
            (False, "labels in doubt", "most of them are hard images"),
        ):
            labels = [label for label in inspection.suspicions if label.strong is strong]
            kinds.append(FindingKind(name, [f"{label.image.path}: {change(label)}" for label in labels], advice))
    return [
        *kinds,
        FindingKind("classes that train/ lacks", inspection.untrained, "a training refuses them"),
        FindingKind(f"classes of under {FEWEST} images", small, "too few to learn from, or to judge"),
        *(
            FindingKind(kind, [f"{path}: {detail}" for path, detail in files], MEANINGS[kind])
            for kind, files in inspection.odd.items()
        ),
        FindingKind("photographs that are not read", inspection.camera, "HEIC and raw formats: save them as JPEG"),
        FindingKind("files passed over", ignored, "not named as images, or outside the class folders"),
    ]


def _copies(groups: Sequence[DuplicateGroup]) -> list[str]:
    """Return a line for each group, with the labels where they differ."""
    lines = []
    for group in groups:
        label = " [{.label}]" if group.contradictory else ""
        lines.append(" = ".join(image.path + label.format(image) for image in group.images) + " (exact)" * group.exact)
    return lines


def change(suspect: SuspectLabel) -> str:
    """Return what may be wrong with a label, with the probabilities."""
    if suspect.likelier == suspect.label:
        return f"'{suspect.label}' is missing ({suspect.other:.0%})"
    if not suspect.likelier:
        return f"'{suspect.label}' may be wrong ({suspect.given:.0%})"
    return f"{suspect.label} ({suspect.given:.0%}), or {suspect.likelier} ({suspect.other:.0%})?"
