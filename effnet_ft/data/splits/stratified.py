"""Holds out a share of the images of each class or label at random."""

from collections.abc import Sequence

import numpy as np

from effnet_ft.data.sources.source import Sample, labels_of
from effnet_ft.errors import DataError
from effnet_ft.utils.text import counted, listing

HeldOut = tuple[list[Sample], list[Sample]]  # the remaining and the held-out samples, each in their original order


def hold_out(samples: Sequence[Sample], fraction: float, seed: Sequence[int], min_remaining: int) -> HeldOut:
    """Hold out ``fraction`` of each class, at least one image, keeping at least ``min_remaining``.

    Raises:
        DataError: if a class has no more than ``min_remaining`` images.
    """
    by_class: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        by_class.setdefault(sample.label, []).append(index)
    small = [f"{name}: {len(indices)}" for name, indices in sorted(by_class.items()) if len(indices) <= min_remaining]
    if small:
        raise DataError(
            f"{counted(len(small), 'class')} with fewer than {min_remaining + 1} images, too few to hold some out: "
            f"add images, or divide them yourself into train/, val/ and test/\n{listing(small)}"
        )
    random = np.random.default_rng(seed)
    held_out: set[int] = set()
    for name in sorted(by_class):
        indices = by_class[name]
        count = min(max(1, round(fraction * len(indices))), len(indices) - min_remaining)
        held_out.update(random.permutation(indices)[:count].tolist())
    return partition(samples, held_out)


def hold_out_multilabel(samples: Sequence[Sample], fraction: float, seed: Sequence[int], min_remaining: int) -> HeldOut:
    """Hold out ``fraction`` of the images of each label, if images have any number of labels.

    Iterative stratification (Sechidis et al. 2011): the images of the label with the fewest unassigned images come
    first, each going to the side that still needs that label most. A label with more than ``min_remaining`` images is
    held out at least once.
    """
    random = np.random.default_rng(seed)
    labels = [labels_of(sample, True) for sample in samples]
    images: dict[str, list[int]] = {}
    for index in random.permutation(len(samples)).tolist():
        for name in labels[index]:
            images.setdefault(name, []).append(index)
    # Images still needed on either side, by label; overall for images without a label and to break ties.
    needed = {name: _targets(len(indices), fraction, min_remaining) for name, indices in images.items()}
    overall = _targets(len(samples), fraction, min_remaining)
    unassigned = {name: len(indices) for name, indices in images.items()}
    held_out: dict[int, bool] = {}

    def assign(index: int, need: Sequence[float]) -> None:
        best = need if need[0] != need[1] else overall
        held_out[index] = best[1] > best[0]
        overall[held_out[index]] -= 1
        for name in labels[index]:
            needed[name][held_out[index]] -= 1
            unassigned[name] -= 1

    while open_labels := [name for name, count in unassigned.items() if count]:
        rarest = min(open_labels, key=lambda name: (unassigned[name], name))
        for index in images[rarest]:
            if index not in held_out:
                assign(index, needed[rarest])
    for index in random.permutation(len(samples)).tolist():
        if index not in held_out:
            assign(index, overall)
    if not 0 < sum(held_out.values()) < len(samples):
        raise DataError(f"too few images to hold some out: there are {len(samples)}; add images")
    return partition(samples, {index for index, out in held_out.items() if out})


def partition(samples: Sequence[Sample], held_out: set[int]) -> HeldOut:
    """Divide ``samples`` by their indices."""
    remaining = [sample for index, sample in enumerate(samples) if index not in held_out]
    return remaining, [sample for index, sample in enumerate(samples) if index in held_out]


def _targets(count: int, fraction: float, min_remaining: int) -> list[float]:
    """Return how many of ``count`` images should remain and how many be held out."""
    out = min(max(1.0, fraction * count), count - min_remaining) if count > min_remaining else 0.0
    return [count - out, out]
