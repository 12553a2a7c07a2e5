"""The findings of an inspection, and how serious they are."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from effnet_ft.inspection.label_issues import MIN_CLASS_IMAGES


@dataclass(frozen=True)
class Image:
    """A labelled image."""

    path: str  # relative to the root
    label: str  # its class, or its labels joined
    part: str  # the split of its folder or manifest row: train, val or test; all if there is none
    fate: str  # the split that a training with this recipe puts it in


@dataclass(frozen=True)
class DuplicateGroup:
    """Two or more images of one photograph."""

    images: tuple[Image, ...]
    exact: bool  # identical files

    @property
    def across(self) -> bool:
        """Whether they are in several splits, so that the measured accuracy rewards memorising."""
        return len({image.part for image in self.images}) > 1

    @property
    def torn(self) -> bool:
        """Whether they are in one folder, but the recipe's random split would separate them."""
        return not self.across and len({image.fate for image in self.images}) > 1

    @property
    def contradictory(self) -> bool:
        """Whether their labels differ."""
        return len({image.label for image in self.images}) > 1


@dataclass(frozen=True)
class SuspectLabel:
    """A label that may be wrong."""

    image: Image
    label: str
    likelier: str  # the likelier class; in multi-label data ``label`` if it may be missing, empty if it may be wrong
    given: float  # probability of the data set's label
    other: float  # probability of the likelier one
    strong: bool  # the classifier is as confident as it is, on average, on images that carry the likelier label

    @property
    def change(self) -> str:
        """What may be wrong, with the probabilities."""
        if self.likelier == self.label:
            return f"label '{self.label}' may be missing ({self.other:.0%})"
        if not self.likelier:
            return f"label '{self.label}' may be wrong ({self.given:.0%})"
        return f"label: {self.label} ({self.given:.0%}); more likely: {self.likelier} ({self.other:.0%})"


@dataclass(frozen=True)
class Inspection:
    """All findings. A part is a split, or ``all`` if there are none."""

    root: Path  # paths are relative to it
    parts: dict[str, int]  # images per part, unreadable ones included
    counts: dict[str, dict[str, int]]  # readable images per class and part
    sides: tuple[int, int, int]  # smallest, median and largest short side of the readable images, pixels
    size: int  # side of the network's input, pixels
    smaller: int  # images with a short side below that
    formats: dict[str, int]  # images per format
    unreadable: dict[str, str]  # reason per path
    ignored: list[str]  # files without an image suffix, or outside the class folders
    camera: list[str]  # those of them in photo formats that are not supported
    refused: str  # why training would refuse the readable images; empty if it would not
    odd: dict[str, list[tuple[str, str]]]  # path and detail of unusual files, per kind
    copies: list[DuplicateGroup]  # the most serious first
    suspicions: list[SuspectLabel] | None  # the most suspect first; None if labels were not checked
    seconds: float  # duration of the inspection

    @property
    def totals(self) -> dict[str, int]:
        """Readable images per class."""
        return {name: sum(parts.values()) for name, parts in self.counts.items()}

    @property
    def small(self) -> dict[str, int]:
        """Classes with too few images to learn from or to check, and how many they have."""
        return {name: total for name, total in self.totals.items() if total < MIN_CLASS_IMAGES}

    @property
    def untrained(self) -> list[str]:
        """Classes with images in other splits but none in ``train``; training refuses them."""
        if "train" not in self.parts:
            return []
        return [name for name, total in self.totals.items() if total and not self.counts[name].get("train")]

    @property
    def imbalance(self) -> float:
        """Ratio of the largest class to the smallest non-empty one."""
        totals = [total for total in self.totals.values() if total]
        return max(totals, default=1) / min(totals, default=1)

    @property
    def serious(self) -> bool:
        """Whether a finding invalidates the measured accuracy or stops training."""
        return bool(self.unreadable) or any(group.across or group.contradictory for group in self.copies)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        kinds = ("exact", "across", "torn", "contradictory")
        copies = [
            {**{kind: getattr(group, kind) for kind in kinds}, "images": [asdict(image) for image in group.images]}
            for group in self.copies
        ]
        derived = {"small": self.small, "untrained": self.untrained, "serious": self.serious}
        return {**asdict(self), "root": str(self.root), "copies": copies, **derived}
