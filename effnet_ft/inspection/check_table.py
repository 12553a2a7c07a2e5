"""An inspection as text for the terminal: the kinds of findings, their numbers, and the first cases of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effnet_ft.inspection.findings import DuplicateGroup, Inspection, SuspectLabel
from effnet_ft.inspection.label_issues import FEWEST
from effnet_ft.inspection.unusual_files import MEANINGS
from effnet_ft.utils.tables import columns
from effnet_ft.utils.text import listing

SHOWN = 10
"""Cases of each kind that the terminal lists; the page has more."""


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding.

    Attributes:
        name: what is found.
        cases: one text each.
        advice: what it means, or what to do.
        serious: it invalidates the measured accuracy or stops a training.
    """

    name: str
    cases: Sequence[str]
    advice: str
    serious: bool = False


def table(inspection: Inspection, page: Path) -> str:
    """Return what the terminal shows: a heading, a line for each kind of finding, and the first cases of each."""
    lines = findings(inspection)
    shown = [line for line in lines if line.cases or line.serious]
    rows = [
        ("!" if line.serious and line.cases else " ", line.name, f"{len(line.cases):,}", line.advice * bool(line.cases))
        for line in shown
    ]
    parts = [heading(inspection), columns(rows, right=[2])]
    parts += [f"{line.name}\n{listing([*line.cases], SHOWN)}" for line in shown if line.cases]
    verdict = "serious findings, marked by !" if inspection.serious else "nothing serious"
    if inspection.refused:
        parts.append(f"what a training refuses\n{listing(inspection.refused.splitlines(), SHOWN)}")
        verdict = verdict if inspection.serious else "nothing serious, but a training refuses the images as they are"
    return "\n\n".join([*parts, f"{verdict}; {inspection.seconds:.0f} s; with pictures: {page}"])


def heading(inspection: Inspection) -> str:
    """Return how many images there are, of which kind and size."""
    total = sum(inspection.parts.values())
    parts = ", ".join(f"{count:,} {part}" for part, count in inspection.parts.items() if part != "all")
    formats = ", ".join(f"{count:,} {name}" for name, count in inspection.formats.items())
    low, middle, high = inspection.sides
    sizes = f"short sides {low} to {high} px, median {middle}"
    if inspection.smaller:
        sizes += f"; {inspection.smaller:,} images are under the {inspection.size} px of the network's input"
    balance = f"the largest class has {inspection.imbalance:.1f} times the images of the smallest"
    of_parts = f" ({parts})" if parts else ""
    return (
        f"{inspection.root}: {total:,} images{of_parts} of {len(inspection.counts):,} classes; {formats}\n"
        f"{sizes}; {balance}"
    )


def findings(inspection: Inspection) -> list[FindingKind]:
    """Return every kind of finding, in the order of weight; those without a case too."""
    unreadable = [f"{path}: {reason}" for path, reason in inspection.unreadable.items()]
    only = [copies for copies in inspection.copies if not copies.across and not copies.contradictory]
    torn = [copies for copies in only if copies.torn]
    rest = [copies for copies in only if not copies.torn]
    camera = set(inspection.camera)
    others = [path for path in inspection.ignored if path not in camera]
    small = [f"{name}: {count}" for name, count in inspection.small.items()]
    lines = [
        FindingKind("files that cannot be read", unreadable, "repair or remove them", True),
        FindingKind("copies across parts", _groups(inspection.across), "keep each photograph in one part", True),
        FindingKind("copies under different labels", _groups(inspection.contradictory), "decide for one label", True),
        FindingKind("copies that a training divides", _groups(torn), "remove them, or give a manifest with groups"),
        FindingKind("other copies", _groups(rest), "they count more than once"),
    ]
    if inspection.suspicions is not None:
        strong, weak = (
            [_doubt(doubt) for doubt in inspection.suspicions if doubt.strong is sure] for sure in (True, False)
        )
        lines.append(FindingKind("labels that look wrong", strong, "look at them"))
        lines.append(FindingKind("labels in doubt", weak, "hard images, most of them"))
    return [
        *lines,
        FindingKind("classes that train/ lacks", inspection.untrained, "a training refuses them"),
        FindingKind(f"classes of under {FEWEST} images", small, "too few to learn from, or to judge"),
        *(
            FindingKind(kind, [f"{path}: {detail}" for path, detail in files], MEANINGS[kind])
            for kind, files in inspection.odd.items()
        ),
        FindingKind("photographs that are not read", inspection.camera, "HEIC and raw formats: save them as JPEG"),
        FindingKind("files passed over", others, "no images by their ending, or outside the class folders"),
    ]


def _groups(groups: Sequence[DuplicateGroup]) -> list[str]:
    return [
        f"{' = '.join(f'{image.path} [{image.label}]' for image in copies.images)}{' (exact)' * copies.exact}"
        if copies.contradictory
        else f"{' = '.join(image.path for image in copies.images)}{' (exact)' * copies.exact}"
        for copies in groups
    ]


def _doubt(doubt: SuspectLabel) -> str:
    return f"{doubt.image.path}: {change(doubt)}"


def change(doubt: SuspectLabel) -> str:
    """Return what is doubted, in words, with the probabilities."""
    if doubt.likelier == doubt.label:
        return f"'{doubt.label}' is missing ({doubt.other:.0%})"
    if not doubt.likelier:
        return f"'{doubt.label}' may not hold ({doubt.given:.0%})"
    return f"{doubt.label} ({doubt.given:.0%}), or {doubt.likelier} ({doubt.other:.0%})?"
