"""Splits a source's images into training, validation and test; the split file, a CSV that is also a manifest."""

import csv
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from effnet_ft.data.images.decoding import content_digests
from effnet_ft.data.sources.source import SPLITS, Sample, Source, label_names, labels_of
from effnet_ft.data.splits.grouped import hold_out_groups
from effnet_ft.data.splits.stratified import HeldOut, hold_out, hold_out_multilabel
from effnet_ft.errors import DataError
from effnet_ft.utils.array_cache import ArrayCache, file_stats
from effnet_ft.utils.atomic_files import atomic_write
from effnet_ft.utils.tables import unescape_formula, write_csv
from effnet_ft.utils.text import counted, listing

log = logging.getLogger(__name__)

MOST_DIGESTED = 20_000_000_000  # bytes of images that are read for their digests


@dataclass(frozen=True)
class Split:
    """Labelled images split for training."""

    root: Path  # the folder that all paths are relative to
    classes: tuple[str, ...]  # names, in the order of the model's logits
    train: list[Sample]  # samples to train on
    val: list[Sample]  # samples to select the best checkpoint by; with `fit="trainval"` they are in `train` too
    test: list[Sample]  # samples to measure the result on; may be empty
    multilabel: bool = False  # an image has any number of labels, not one class

    def part(self, name: str) -> list[Sample]:
        """Return the samples of ``train``, ``val`` or ``test``, or of ``all``."""
        if name == "all":
            return list(dict.fromkeys([*self.train, *self.val, *self.test]))  # an image may be in two
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def image(self, sample: Sample) -> Path:
        """Return the file of ``sample``."""
        return self.root / sample.path

    @property
    def held_out(self) -> str:
        """The split that results are measured on: ``test`` if there is one, else ``val``."""
        return "test" if self.test else "val"

    def labels(self, samples: Sequence[Sample]) -> np.ndarray:
        """Return the encoded labels of ``samples``, as :func:`encode_labels` does."""
        return encode_labels(samples, self.classes, self.multilabel)


def encode_labels(
    samples: Sequence[Sample], classes: Sequence[str], multilabel: bool, *, as_matrix: bool = False
) -> np.ndarray:
    """Encode labels as class indices, int64 ``[N]``, or, ``multilabel`` or ``as_matrix``, 0/1, float32 ``[N, K]``."""
    index = {name: number for number, name in enumerate(classes)}
    if not multilabel and not as_matrix:
        return np.array([index[sample.label] for sample in samples], dtype=np.int64)
    matrix = np.zeros((len(samples), len(classes)), np.float32)
    for row, sample in zip(matrix, samples, strict=True):
        row[[index[name] for name in labels_of(sample, multilabel)]] = 1
    return matrix


def make_split(source: Source, *, val_fraction: float, test_fraction: float, seed: int, fit: str = "train") -> Split:
    """Split a source, keeping the splits that it has.

    An unsplit source is split three ways, each class in proportion. If only ``val`` is missing, it is held out of
    ``train``; if only ``test`` is missing, results are measured on ``val``. Groups stay whole.

    Args:
        source: the labelled images.
        val_fraction: share of all images, or of ``train``, held out for validation.
        test_fraction: share of all images held out for the test.
        seed: of the random choice.
        fit: ``train``, or ``trainval``, which needs a test split, to train on the validation images too.

    Raises:
        DataError: if a class has too few images or groups cannot be divided.
    """
    splits = source.splits
    divide: Callable[..., HeldOut] = hold_out_multilabel if source.multilabel else hold_out
    if any(sample.group for sample in source.part("all")):
        divide = partial(hold_out_groups, multilabel=source.multilabel)
    if "all" in splits:
        rest, test = divide(splits["all"], test_fraction, (seed, 1), min_remaining=2)
        train, val = divide(rest, val_fraction / (1 - test_fraction), (seed, 2), min_remaining=1)
    elif "val" in splits:
        train, val, test = splits["train"], splits["val"], splits.get("test", [])
    else:
        train, val = divide(splits["train"], val_fraction, (seed, 2), min_remaining=1)
        test = splits.get("test", [])
    split = Split(source.root, source.classes, train, val, test, source.multilabel)
    if divide is not hold_out:
        _check_missing_classes(split)
    if fit == "trainval":
        if not split.test:
            raise DataError(
                f"data.fit is 'trainval', but {source.root} has no test images: "
                "the result would be measured on images that were trained on"
            )
        return replace(split, train=[*split.train, *split.val])
    return split


def _check_missing_classes(split: Split) -> None:
    """Warn of classes without images in a split; refuse it if they cannot be learned or compared."""
    for name in SPLITS:
        present = label_names(split.part(name), split.multilabel)
        missing = sorted(set(split.classes) - present)
        if missing and name == "train":
            raise DataError(
                f"{counted(len(missing), 'class')} without an image in the training split, which a model cannot learn\n"
                f"{listing(missing)}"
            )
        if name == "val" and not present:
            raise DataError("no image of the validation split has a label: models cannot be compared on it")
        if missing and split.part(name):
            log.warning(
                "%s without an image in the %s split, so not measured there\n%s",
                *(counted(len(missing), "class"), name, listing(missing)),
            )


def write_split(split: Split, path: Path) -> None:
    """Write ``split`` as CSV with the columns path, label or labels, split and, if known, group and sha256."""
    known = {"group": any(s.group for s in split.part("all")), "sha256": any(s.digest for s in split.part("all"))}
    # surrogateescape preserves file names that are not UTF-8.
    with atomic_write(path, newline="", errors="surrogateescape") as file:
        head = ["path", "labels" if split.multilabel else "label", "split", *(name for name in known if known[name])]
        rows = (
            {"split": name, "sha256": sample.digest, head[1]: sample.label, "path": sample.path, "group": sample.group}
            for name in SPLITS
            for sample in split.part(name)
        )
        write_csv(file, [head, *([row[name] for name in head] for row in rows)])


def read_split(path: Path, root: Path, classes: Sequence[str]) -> Split:
    """Return the split that :func:`write_split` wrote; ``classes`` are in the order of the logits.

    Raises:
        DataError: if the file is missing or damaged.
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
                cells = {name: unescape_formula(cell) for name, cell in row.items()}
                sample = Sample(cells["path"], cells[column], cells.get("group", ""), cells.get("sha256", ""))
                if unknown := set(labels_of(sample, multilabel)) - known:
                    raise ValueError(f"{min(unknown)!r} is not a class of the model")
                parts[row["split"]].append(sample)
        if not parts["train"] or not parts["val"]:
            raise ValueError("it lists no images")
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the split {path} ({error!r}): the run folder is incomplete") from error
    return Split(root, tuple(classes), parts["train"], parts["val"], parts["test"], multilabel)


def digests_of(root: Path, samples: Sequence[Sample], cache: ArrayCache) -> list[str]:
    """Return the digests of images; empty ones where reading all files would take minutes."""
    paths = [root / sample.path for sample in samples]
    if sum(size for _, size, *_ in file_stats(paths)) > MOST_DIGESTED:
        return [""] * len(paths)
    return content_digests(paths, cache)


def with_digests(split: Split, cache: ArrayCache) -> Split:
    """Return ``split`` with the digests of its images."""
    samples = split.part("all")
    known = {
        sample: replace(sample, digest=digest)
        for sample, digest in zip(samples, digests_of(split.root, samples, cache), strict=True)
    }
    train, val, test = ([known[sample] for sample in split.part(part)] for part in SPLITS)
    return replace(split, train=train, val=val, test=test)


def copies_of_training_images(split: Split, part: str) -> list[Sample]:
    """Return the images of ``part`` that are byte-identical to training images other than themselves."""
    trained = {sample.digest: sample.path for sample in split.train if sample.digest}
    return [sample for sample in split.part(part) if trained.get(sample.digest, sample.path) != sample.path]


def missing_images(split: Split) -> list[str]:
    """Return the paths of the images of a split that are missing."""
    root = str(split.root)
    return [sample.path for sample in split.part("all") if not os.path.isfile(os.path.join(root, sample.path))]


def require_images(split: Split) -> None:
    """Raise a DataError if images of a split are missing."""
    if missing := missing_images(split):
        raise DataError(
            f"{counted(len(missing), 'image')} of the run not found in {split.root}: "
            f"give the folder of the images with data.root=...\n{listing(missing, 3)}"
        )
