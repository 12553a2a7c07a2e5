"""Holds out whole groups of images, such as all images of a patient, near to a share of each class."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from effnet_ft.data.sources.source import Sample, labels_of
from effnet_ft.data.splits.stratified import HeldOut, partition
from effnet_ft.errors import DataError
from effnet_ft.utils.text import counted


def hold_out_groups(
    samples: Sequence[Sample], fraction: float, seed: Sequence[int], min_remaining: int, multilabel: bool = False
) -> HeldOut:
    """Hold out about ``fraction`` of each class in whole groups; a sample without a group is one of its own.

    Groups in random order change sides as long as that brings the classes nearer to their shares. Every class keeps
    images in ``min_remaining`` groups; one with more groups is held out too if a group allows it.

    Raises:
        DataError: if there are too few groups, or each holds all images of a class.
    """
    by_group: dict[str | int, list[int]] = {}
    for index, sample in enumerate(samples):
        by_group.setdefault(sample.group or index, []).append(index)
    groups = list(by_group.values())
    if len(groups) <= min_remaining:
        raise DataError(
            f"the images are of {counted(len(groups), 'group')}, at least {min_remaining + 1} are needed "
            "to hold some out: name smaller groups, or divide the images yourself with a column 'split'"
        )
    random = np.random.default_rng(seed)
    groups = [groups[index] for index in random.permutation(len(groups))]
    # Images without a label count as a label of their own, so that they are shared out too.
    counts = [Counter(name for index in g for name in labels_of(samples[index], multilabel) or [""]) for g in groups]
    search = _GroupSearch(counts, fraction, min_remaining)
    search.improve()
    search.hold_out_missing_labels()
    if not any(search.held_out):
        others = "other group has" if min_remaining == 1 else f"{min_remaining} other groups have"
        raise DataError(
            f"no group can be held out: each of the {len(groups)} groups holds images of a class that no {others}; "
            "name smaller groups, or divide the images yourself with a column 'split'"
        )
    held_out = {index for group, out in zip(groups, search.held_out, strict=True) if out for index in group}
    return partition(samples, held_out)


class _GroupSearch:
    """Which groups are held out, and how far each label is from its share."""

    def __init__(self, counts: Sequence[Counter[str]], fraction: float, min_remaining: int) -> None:
        self.counts = counts  # images by label, for each group
        self.fraction = fraction  # of each label
        self.min_remaining = min_remaining  # groups that every label keeps
        self.held_out = [False] * len(counts)
        self.totals: Counter[str] = Counter()
        self.remaining_groups: Counter[str] = Counter()
        for count in counts:
            self.totals.update(count)
            self.remaining_groups.update(count.keys())
        self.divisible = sorted(name for name, number in self.remaining_groups.items() if number > min_remaining)
        self.held_out_images: Counter[str] = Counter()

    def improve(self) -> None:
        """Move groups between the sides while that brings the labels nearer to their shares."""
        for _ in range(4):  # further passes find nothing to improve
            moved = False
            for group, out in enumerate(self.held_out):
                if self._gain(group) > 1e-12 and (out or self._movable(group)):
                    self._move(group)
                    moved = True
            if not moved:
                break

    def hold_out_missing_labels(self) -> None:
        """Hold out a group of each label that has none held out, if it has enough groups."""
        for name in self.divisible:
            if not self.held_out_images[name]:
                candidates = [group for group, count in enumerate(self.counts) if count[name] and self._movable(group)]
                if candidates:
                    self._move(max(candidates, key=self._gain))

    def _gain(self, group: int) -> float:
        """Return the decrease of the squared relative distances from the shares if ``group`` changes sides."""
        sign = -1 if self.held_out[group] else 1
        gain = 0.0
        for name, count in self.counts[group].items():
            excess = self.held_out_images[name] - self.fraction * self.totals[name]
            gain += (excess**2 - (excess + sign * count) ** 2) / self.totals[name] ** 2
        return gain

    def _movable(self, group: int) -> bool:
        return all(self.remaining_groups[name] > self.min_remaining for name in self.counts[group] if name)

    def _move(self, group: int) -> None:
        sign = -1 if self.held_out[group] else 1
        self.held_out[group] = not self.held_out[group]
        for name, count in self.counts[group].items():
            self.held_out_images[name] += sign * count
            self.remaining_groups[name] -= sign
