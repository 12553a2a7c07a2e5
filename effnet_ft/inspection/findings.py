"""What an inspection found, and how serious it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from effnet_ft.inspection.label_issues import FEWEST


@dataclass(frozen=True)
class Image:
    """A labelled image.

    Attributes:
        path: relative to the root.
        label: its class, or its labels.
        part: ``train``, ``val`` or ``test`` as its folder or manifest says; ``all`` where nothing does.
        fate: the part that a training with this recipe puts it in.
    """

    path: str
    label: str
    part: str
    fate: str


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that show one photograph.

    Attributes:
        images: two or more.
        exact: all have the same content, byte for byte.
    """

    images: tuple[Image, ...]
    exact: bool

    @property
    def across(self) -> bool:
        """Whether they lie in several of train, val and test: what is measured there was learned by heart."""
        return len({image.part for image in self.images}) > 1

    @property
    def torn(self) -> bool:
        """Whether they lie in one part, but a training would carve another one out between them."""
        return not self.across and len({image.fate for image in self.images}) > 1

    @property
    def contradictory(self) -> bool:
        """Whether their labels differ."""
        return len({image.label for image in self.images}) > 1

    @property
    def rank(self) -> tuple[bool, bool, bool, bool]:
        """What to sort by, the worst first."""
        return not self.across, not self.contradictory, not self.torn, not self.exact


@dataclass(frozen=True)
class SuspectLabel:
    """A label that looks wrong.

    Attributes:
        image: whose.
        label: the doubted one.
        likelier: the class that is likelier; of several labels an image, ``label`` again where it may hold after all,
            empty where it may not hold.
        given: probability of what the data say.
        other: probability of what is likelier.
        strong: the classifier is as sure as of images whose labels are right.
    """

    image: Image
    label: str
    likelier: str
    given: float
    other: float
    strong: bool


@dataclass(frozen=True)
class Inspection:
    """All that was found.

    Attributes:
        root: the folder that paths are relative to.
        parts: images of each part, those that cannot be read included.
        counts: images that can be read, by class and part.
        sides: the shortest, the median and the longest of the short sides, pixels; zeros where no image can be read.
        size: side of the network's input, pixels.
        smaller: images whose short side is under it.
        formats: images by format.
        unreadable: reason by path.
        ignored: files that are no images by their ending, or lie outside the class folders.
        camera: those of them that are photographs of kinds that are not read.
        refused: why a training would refuse the images that can be read; empty where it would not.
        odd: path and detail of the odd files, by kind.
        copies: the worst first.
        suspicions: the most doubtful first; None where labels were not judged.
        seconds: that the inspection took.
    """

    root: Path
    parts: dict[str, int]
    counts: dict[str, dict[str, int]]
    sides: tuple[int, int, int]
    size: int
    smaller: int
    formats: dict[str, int]
    unreadable: dict[str, str]
    ignored: list[str]
    camera: list[str]
    refused: str
    odd: dict[str, list[tuple[str, str]]]
    copies: list[DuplicateGroup]
    suspicions: list[SuspectLabel] | None
    seconds: float

    @property
    def across(self) -> list[DuplicateGroup]:
        """Copies in several of train, val and test."""
        return [copies for copies in self.copies if copies.across]

    @property
    def contradictory(self) -> list[DuplicateGroup]:
        """Copies with different labels."""
        return [copies for copies in self.copies if copies.contradictory]

    @property
    def small(self) -> dict[str, int]:
        """Classes with too few images to learn from and be judged, with their number."""
        totals = {name: sum(parts.values()) for name, parts in self.counts.items()}
        return {name: total for name, total in totals.items() if total < FEWEST}

    @property
    def untrained(self) -> list[str]:
        """Classes that lie in other parts and not in ``train``, which a training refuses."""
        if "train" not in self.parts:
            return []
        return [name for name, parts in self.counts.items() if sum(parts.values()) and not parts.get("train")]

    @property
    def imbalance(self) -> float:
        """How many times as many images the largest class has as the smallest that has any."""
        totals = [total for parts in self.counts.values() if (total := sum(parts.values()))]
        return max(totals, default=1) / min(totals, default=1)

    @property
    def serious(self) -> bool:
        """Whether something falsifies a measurement or stops a training."""
        return bool(self.unreadable or self.across or self.contradictory)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        kinds = ("exact", "across", "torn", "contradictory")
        copies = [
            {**{kind: getattr(group, kind) for kind in kinds}, "images": [asdict(image) for image in group.images]}
            for group in self.copies
        ]
        derived = {"small": self.small, "untrained": self.untrained, "serious": self.serious}
        return {**asdict(self), "root": str(self.root), "copies": copies, **derived}
