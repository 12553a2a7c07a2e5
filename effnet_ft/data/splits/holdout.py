"""Takes a share of a data set's images out of it: of each class, of each label, or in whole groups.

The seed decides. Where labels or groups do, the search is greedy: each share comes as near to the wanted one as it can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from effnet_ft.data.sources.source import Sample, labels_of
from effnet_ft.errors import DataError
from effnet_ft.utils.text import listing

_PASSES = 4
"""Over all groups, to improve a division; later ones find nothing more to change."""

Divided = tuple[list[Sample], list[Sample]]
"""What is left and what was taken, both in the order of the samples."""


def hold_out(samples: Sequence[Sample], fraction: float, seed: Sequence[int], kept: int) -> Divided:
    """Take ``fraction`` of each class out of ``samples``, at random, at least one image and leaving at least ``kept``.

    Raises:
        DataError: where a class has fewer than ``kept + 1`` images.
    """
    by_class: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        by_class.setdefault(sample.label, []).append(number)
    small = [f"{name}: {len(numbers)}" for name, numbers in sorted(by_class.items()) if len(numbers) <= kept]
    if small:
        raise DataError(
            f"{len(small)} classes have fewer than {kept + 1} images, too few to hold some out: add images, "
            f"or divide them yourself into train/, val/ and test/\n{listing(small)}"
        )
    random = np.random.default_rng(seed)
    taken: set[int] = set()
    for name in sorted(by_class):
        numbers = by_class[name]
        count = min(max(1, round(fraction * len(numbers))), len(numbers) - kept)
        taken.update(random.permutation(numbers)[:count].tolist())
    left = [sample for number, sample in enumerate(samples) if number not in taken]
    return left, [samples[number] for number in sorted(taken)]


def hold_out_labels(samples: Sequence[Sample], fraction: float, seed: Sequence[int], kept: int) -> Divided:
    """Take ``fraction`` of the images of each label out of ``samples``, where an image has any number of labels.

    Iterative stratification (Sechidis et al. 2011): of the label with the fewest images left to divide, each image goes
    where that label is wanted most. At least one image of each label is taken where ``kept`` others are left.
    """
    random = np.random.default_rng(seed)
    names = [labels_of(sample, True) for sample in samples]
    images: dict[str, list[int]] = {}
    for number in random.permutation(len(samples)).tolist():
        for name in names[number]:
            images.setdefault(name, []).append(number)
    # What each label still wants, left and taken; an image without a label goes by the count of all.
    wanted = {name: _shares(len(numbers), fraction, kept) for name, numbers in images.items()}
    overall = _shares(len(samples), fraction, kept)
    remaining = {name: len(numbers) for name, numbers in images.items()}
    side: dict[int, int] = {}

    def place(number: int, wishes: Sequence[float]) -> None:
        best = wishes if wishes[0] != wishes[1] else overall
        chosen = int(best[1] > best[0])
        side[number] = chosen
        overall[chosen] -= 1
        for name in names[number]:
            wanted[name][chosen] -= 1
            remaining[name] -= 1

    while open_labels := [name for name, count in remaining.items() if count]:
        rarest = min(open_labels, key=lambda name: (remaining[name], name))
        for number in images[rarest]:
            if number not in side:
                place(number, wanted[rarest])
    for number in random.permutation(len(samples)).tolist():
        if number not in side:
            place(number, overall)
    if not 0 < sum(side.values()) < len(samples):
        raise DataError(f"{len(samples)} images are too few to hold some out: add images")
    return _parts(samples, [bool(side[number]) for number in range(len(samples))])


def hold_out_groups(
    samples: Sequence[Sample], fraction: float, seed: Sequence[int], kept: int, multilabel: bool = False
) -> Divided:
    """Take about ``fraction`` of each class out of ``samples`` in whole groups; a sample without one is a group.

    Groups come in random order, and each is taken where that brings the classes nearer to their shares. Every class
    keeps images in ``kept`` groups; one that stands in more groups than that is taken too, where a group allows.

    Raises:
        DataError: where there are too few groups, or each holds all images of a class.
    """
    groups = _groups(samples)
    if len(groups) <= kept:
        raise DataError(
            f"the images are of {len(groups)} groups, at least {kept + 1} are needed to hold some out: name smaller "
            "groups, or divide the images yourself with a column 'split'"
        )
    random = np.random.default_rng(seed)
    order = [groups[number] for number in random.permutation(len(groups))]
    # An image without a label counts for itself, so that such images have their share too.
    counts = [Counter(name for place in g for name in labels_of(samples[place], multilabel) or [""]) for g in order]
    totals: Counter[str] = Counter()
    left_groups: Counter[str] = Counter()
    for count in counts:
        totals.update(count)
        left_groups.update(count.keys())
    several = {name for name, number in left_groups.items() if number > kept}
    taken: Counter[str] = Counter()
    chosen = [False] * len(order)

    def gain(number: int, sign: int) -> float:
        """Return how much nearer all classes come to their shares where a group changes sides."""
        nearer = 0.0
        for name, count in counts[number].items():
            off = taken[name] - fraction * totals[name]
            nearer += (off**2 - (off + sign * count) ** 2) / totals[name] ** 2
        return nearer

    def movable(number: int) -> bool:
        return all(left_groups[name] > kept for name in counts[number] if name)

    def move(number: int) -> None:
        sign = -1 if chosen[number] else 1
        chosen[number] = not chosen[number]
        for name, count in counts[number].items():
            taken[name] += sign * count
            left_groups[name] -= sign

    for _ in range(_PASSES):
        moved = False
        for number in range(len(order)):
            if gain(number, -1 if chosen[number] else 1) > 1e-12 and (chosen[number] or movable(number)):
                move(number)
                moved = True
        if not moved:
            break
    for name in sorted(several):
        if not taken[name]:
            fitting = [number for number in range(len(order)) if counts[number][name] and movable(number)]
            if fitting:
                move(max(fitting, key=lambda number: gain(number, 1)))
    if not any(chosen):
        raise DataError(
            f"no group can be held out: each of the {len(groups)} groups holds images of a class that no "
            f"{'other group has' if kept == 1 else f'{kept} other groups have'}; name smaller groups, or divide the "
            "images yourself with a column 'split'"
        )
    held = {place for number, group in enumerate(order) if chosen[number] for place in group}
    return _parts(samples, [place in held for place in range(len(samples))])


def _groups(samples: Sequence[Sample]) -> list[list[int]]:
    """Return the places of each group's samples, the groups in the order of their first."""
    named: dict[str, list[int]] = {}
    groups: list[list[int]] = []
    for place, sample in enumerate(samples):
        if sample.group in named:
            named[sample.group].append(place)
        else:
            groups.append([place])
            if sample.group:
                named[sample.group] = groups[-1]
    return groups


def _shares(count: int, fraction: float, kept: int) -> list[float]:
    """Return how many of ``count`` images are to be left and to be taken."""
    taken = min(max(1.0, fraction * count), count - kept) if count > kept else 0.0
    return [count - taken, taken]


def _parts(samples: Sequence[Sample], taken: Sequence[bool]) -> Divided:
    left = [sample for sample, held in zip(samples, taken, strict=True) if not held]
    return left, [sample for sample, held in zip(samples, taken, strict=True) if held]
