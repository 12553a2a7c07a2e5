"""Which image is for training, which for validation, which for the test: decided once, written down, read back."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from effnet_ft.cache import ArrayCache, array_key, file_states
from effnet_ft.data.carving import carve_groups, carve_labels
from effnet_ft.data.images import unreadable
from effnet_ft.data.sources import SPLITS, Sample, Source, labels_of
from effnet_ft.errors import DataError, listing
from effnet_ft.tabular import unguarded, write_csv
from effnet_ft.writing import whole_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Labelled images divided for training.

    Attributes:
        root: the folder that all paths are relative to.
        classes: names, in the order of the model's logits.
        train: samples to train on.
        val: samples to choose the best checkpoint by; those of ``fit="trainval"`` are among ``train`` too.
        test: samples to measure the result on; empty where there are none.
        multilabel: an image has any number of labels, not one class.
    """

    root: Path
    classes: tuple[str, ...]
    train: list[Sample]
    val: list[Sample]
    test: list[Sample]
    multilabel: bool = False

    def part(self, name: str) -> list[Sample]:
        """Return the samples of ``train``, ``val`` or ``test``, or of ``all``."""
        if name == "all":
            return list(dict.fromkeys([*self.train, *self.val, *self.test]))  # an image may be in two parts
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
        """Return the class indices of ``samples``, int64 ``[N]``; of several labels, float32 ``[N, K]`` of 0 and 1."""
        return encoded(samples, self.classes, self.multilabel)


def encoded(
    samples: Sequence[Sample], classes: Sequence[str], multilabel: bool, *, as_matrix: bool = False
) -> np.ndarray:
    """Return what a network learns of the samples' labels.

    Args:
        samples: the images.
        classes: names, in the order of the logits.
        multilabel: a sample's label holds any number of names.
        as_matrix: give single classes as a matrix too.

    Returns:
        Class indices, int64 ``[N]``; where there are several labels an image, float32 ``[N, K]`` of 0 and 1.
    """
    index = {name: number for number, name in enumerate(classes)}
    if not multilabel and not as_matrix:
        return np.array([index[sample.label] for sample in samples], dtype=np.int64)
    matrix = np.zeros((len(samples), len(classes)), np.float32)
    for row, sample in zip(matrix, samples, strict=True):
        row[[index[name] for name in labels_of(sample, multilabel)]] = 1
    return matrix


def make_split(source: Source, *, val_fraction: float, test_fraction: float, seed: int, fit: str = "train") -> Split:
    """Divide a source. Folders that are there are kept; what is missing is carved out, each class in proportion.

    With ``train/`` and ``test/`` a validation part is carved out of ``train/``; with ``train/`` and ``val/`` nothing is
    carved, and results are measured on ``val/``; class folders alone are split three ways. Images of one group are
    never divided.

    Args:
        source: the labelled images.
        val_fraction: share of all images, or of ``train/``, to carve out for validation.
        test_fraction: share of all images to carve out for the test.
        seed: of the draw.
        fit: ``train``, or ``trainval`` to train on the validation images too, once the settings are chosen.

    Raises:
        DataError: where a class has fewer images than it needs for one in each part, or groups cannot be divided;
            with ``trainval``, where there is no test part to measure on.
    """
    splits = source.splits
    divide = _carver(source)
    if "all" in splits:
        rest, test = divide(splits["all"], test_fraction, (seed, 1), kept=2)
        train, val = divide(rest, val_fraction / (1 - test_fraction), (seed, 2), kept=1)
    elif "val" in splits:
        train, val, test = splits["train"], splits["val"], splits.get("test", [])
    else:
        train, val = divide(splits["train"], val_fraction, (seed, 2), kept=1)
        test = splits.get("test", [])
    split = Split(source.root, source.classes, train, val, test, source.multilabel)
    if divide is not carve:
        _tell_missing(split)
    if fit == "trainval":
        if not split.test:
            raise DataError(
                f"data.fit is 'trainval', but {source.root} has no test images: "
                "the result would be measured on images that were trained on"
            )
        return replace(split, train=[*split.train, *split.val])
    return split


def _carver(source: Source) -> Callable[..., tuple[list[Sample], list[Sample]]]:
    """Return what divides the samples of ``source``: by groups where it has some, by labels, or by classes."""
    if any(sample.group for sample in source.part("all")):
        return partial(carve_groups, multilabel=source.multilabel)
    return carve_labels if source.multilabel else carve


def _tell_missing(split: Split) -> None:
    """Warn of classes that are missing in a part, and refuse a split whose training part lacks one.

    Raises:
        DataError: naming those classes, or where no label at all holds in the validation part.
    """
    for name in SPLITS:
        present = {label for sample in split.part(name) for label in labels_of(sample, split.multilabel)}
        missing = sorted(set(split.classes) - present)
        if missing and name == "train":
            raise DataError(
                f"{len(missing)} classes have no image in the training part: a model cannot learn them\n"
                f"{listing(missing)}"
            )
        if name == "val" and not present:
            raise DataError("no label holds in the validation part: nothing tells a better model from a worse one")
        if missing and split.part(name):
            log.warning(
                "%d classes have no image in the %s part, which says nothing of them\n%s",
                *(len(missing), name, listing(missing)),
            )


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


def without_unreadable(source: Source, on_bad: str, cache: ArrayCache | None = None) -> tuple[Source, dict[str, str]]:
    """Read every image of ``source`` once and refuse or leave out those that cannot be read.

    Args:
        source: what to check.
        on_bad: ``error`` or ``skip``.
        cache: remembers files that could all be read: they are not read again until one changes in size or time.

    Returns:
        The source without unreadable files, and their reasons by path.

    Raises:
        DataError: with ``error``, listing the files; with ``skip``, where a class has no image left.
    """
    paths = [sample.path for samples in source.splits.values() for sample in samples]
    key = array_key(readable=file_states([source.root / path for path in paths])) if cache else ""
    if cache and cache.noted(key):
        return source, {}
    reasons = unreadable(source.root, paths)
    if not reasons:
        if cache:
            cache.note(key, "all")
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
        before, after = (
            {label for sample in listed for label in labels_of(sample, source.multilabel)}
            for listed in (samples, kept[split])
        )
        if emptied := sorted(before - after):
            raise DataError(f"no image of these classes in {split} can be read\n{listing(emptied)}")
    return replace(source, splits=kept), reasons


def require_images(split: Split) -> None:
    """Refuse a split whose images are not, or no longer, in its root.

    Raises:
        DataError: naming the first of them.
    """
    samples = (sample for name in SPLITS for sample in split.part(name))
    root = str(split.root)
    if gone := [sample.path for sample in samples if not os.path.isfile(os.path.join(root, sample.path))]:
        raise DataError(
            f"{len(gone)} images of the run are not in {split.root}: "
            f"give the folder they lie in now with data.root=...\n{listing(gone, 3)}"
        )


def write_split(split: Split, path: Path) -> None:
    """Write ``split`` as CSV with the columns path, label or labels, split and, where there are groups, group.

    It is a manifest too, as of :mod:`effnet_ft.data.manifest`.
    """
    grouped = any(sample.group for sample in split.part("all"))
    # The error handler of file names: a name that is not UTF-8 is written and read back as it lies on disk.
    with whole_file(path, newline="", errors="surrogateescape") as file:
        head = ["path", "labels" if split.multilabel else "label", "split", *(["group"] if grouped else [])]
        rows = (
            [sample.path, sample.label, name, *([sample.group] if grouped else [])]
            for name in SPLITS
            for sample in split.part(name)
        )
        write_csv(file, [head, *rows])


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
            rows = csv.DictReader(file)
            multilabel = "labels" in (rows.fieldnames or ())
            column = "labels" if multilabel else "label"
            for row in rows:
                if None in row.values() or None in row:
                    raise ValueError(f"line {rows.line_num} is cut off, or has too many cells")
                sample = Sample(unguarded(row["path"]), unguarded(row[column]), unguarded(row.get("group", "")))
                if strange := set(labels_of(sample, multilabel)) - known:
                    raise ValueError(f"{min(strange)!r} is not a class of the model")
                parts[row["split"]].append(sample)
        if not parts["train"] or not parts["val"]:
            raise ValueError("it lists no images")
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the split {path} ({error!r}): the run folder is incomplete") from error
    return Split(root, tuple(classes), parts["train"], parts["val"], parts["test"], multilabel)
