"""Which image is for training, which for validation, which for the test: decided once, written down, read back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effnet_ft.data.images import unreadable
from effnet_ft.data.sources import SPLITS, Sample, Source
from effnet_ft.errors import DataError, listing


@dataclass(frozen=True)
class Split:
    """Labelled images divided for training.

    Attributes:
        root: the folder that all paths are relative to.
        classes: names, in the order of the model's logits.
        train: samples to train on.
        val: samples to choose the best checkpoint by.
        test: samples to measure the result on; empty where there are none.
    """

    root: Path
    classes: tuple[str, ...]
    train: list[Sample]
    val: list[Sample]
    test: list[Sample]

    def part(self, name: str) -> list[Sample]:
        """Return the samples of ``train``, ``val`` or ``test``, or of ``all``."""
        if name == "all":
            return [*self.train, *self.val, *self.test]
        samples: list[Sample] = getattr(self, name)
        return samples

    def image(self, sample: Sample) -> Path:
        """Return the file of ``sample``."""
        return self.root / sample.path

    @property
    def held_out(self) -> str:
        """The part that results are measured on: ``test`` where there is one, else ``val``."""
        return "test" if self.test else "val"

    def labels(self, samples: Sequence[Sample]) -> np.ndarray:
        """Return the class indices of ``samples``, int64 ``[N]``."""
        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index[sample.label] for sample in samples], dtype=np.int64)


def make_split(source: Source, *, val_fraction: float, test_fraction: float, seed: int) -> Split:
    """Divide a source. Folders that are there are kept; what is missing is carved out, each class in proportion.

    With ``train/`` and ``test/`` a validation part is carved out of ``train/``; with ``train/`` and ``val/`` nothing is
    carved, and results are measured on ``val/``; class folders alone are split three ways.

    Raises:
        DataError: where a class has fewer images than it needs for one in each part.
    """
    splits = source.splits
    if "all" in splits:
        rest, test = carve(splits["all"], test_fraction, (seed, 1), kept=2)
        train, val = carve(rest, val_fraction / (1 - test_fraction), (seed, 2), kept=1)
    elif "val" in splits:
        train, val, test = splits["train"], splits["val"], splits.get("test", [])
    else:
        train, val = carve(splits["train"], val_fraction, (seed, 2), kept=1)
        test = splits.get("test", [])
    return Split(source.root, source.classes, train, val, test)


def carve(
    samples: Sequence[Sample], fraction: float, seed: Sequence[int], kept: int
) -> tuple[list[Sample], list[Sample]]:
    """Take ``fraction`` of each class out of ``samples``, at random, at least one image and leaving at least ``kept``.

    Returns:
        What is left and what was taken, both in the order of ``samples``.

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


def without_unreadable(source: Source, on_bad: str) -> tuple[Source, dict[str, str]]:
    """Read every image of ``source`` once and refuse or leave out those that cannot be read.

    Args:
        source: what to check.
        on_bad: ``error`` or ``skip``.

    Returns:
        The source without unreadable files, and their reasons by path.

    Raises:
        DataError: with ``error``, listing the files; with ``skip``, where a class has no image left.
    """
    reasons = unreadable(source.root, [sample.path for samples in source.splits.values() for sample in samples])
    if not reasons:
        return source, reasons
    lines = [f"{path}: {reason}" for path, reason in reasons.items()]
    if on_bad == "error":
        raise DataError(
            f"{len(lines)} files of {source.root} cannot be read: repair or remove them, "
            f"or leave them out with data.bad_images=skip\n{listing(lines)}"
        )
    kept = {
        split: [sample for sample in samples if sample.path not in reasons] for split, samples in source.splits.items()
    }
    for split, samples in source.splits.items():
        if emptied := sorted({sample.label for sample in samples} - {sample.label for sample in kept[split]}):
            raise DataError(f"no image of these classes in {split} can be read\n{listing(emptied)}")
    return replace(source, splits=kept), reasons


def require_images(split: Split) -> None:
    """Refuse a split whose images are not, or no longer, in its root.

    Raises:
        DataError: naming the first of them.
    """
    samples = (sample for name in SPLITS for sample in split.part(name))
    if gone := [sample.path for sample in samples if not (split.root / sample.path).is_file()]:
        raise DataError(
            f"{len(gone)} images of the run are not in {split.root}: "
            f"give the folder they lie in now with data.root=...\n{listing(gone, 3)}"
        )


def write_split(split: Split, path: Path) -> None:
    """Write ``split`` as CSV with the columns path, label, split."""
    # The error handler of file names: a name that is not UTF-8 is written and read back as it lies on disk.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for name in SPLITS:
            writer.writerows([sample.path, sample.label, name] for sample in split.part(name))


def read_split(path: Path, root: Path, classes: Sequence[str]) -> Split:
    """Return the split that :func:`write_split` wrote.

    Args:
        path: the CSV file.
        root: the folder that its paths are relative to.
        classes: names, in the order of the model's logits.

    Raises:
        DataError: where the file is missing or damaged.
    """
    parts: dict[str, list[Sample]] = {name: [] for name in SPLITS}
    known = frozenset(classes)
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            for row in csv.DictReader(file):
                if row["label"] not in known:
                    raise ValueError(f"{row['label']!r} is not a class of the model")
                parts[row["split"]].append(Sample(row["path"], row["label"]))
        if not parts["train"] or not parts["val"]:
            raise ValueError("it lists no images")
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the split {path} ({error!r}): the run folder is incomplete") from error
    return Split(root, tuple(classes), parts["train"], parts["val"], parts["test"])
