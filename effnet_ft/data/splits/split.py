"""Splits a source's images into training, validation and test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from effnet_ft.data.sources.source import SPLITS, Sample, Source, labels_of
from effnet_ft.data.splits.grouped import hold_out_groups
from effnet_ft.data.splits.stratified import HeldOut, hold_out, hold_out_multilabel
from effnet_ft.errors import DataError
from effnet_ft.utils.text import listing

log = logging.getLogger(__name__)


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
        samples: list[Sample] = getattr(self, name)
        return samples

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
    """Encode labels, by their indices in ``classes``, as training targets.

    Returns:
        Class indices, int64 ``[N]``; if ``multilabel`` or ``as_matrix`` zeros and ones, float32 ``[N, K]``.
    """
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
        fit: ``train``, or ``trainval`` to train on the validation images too.

    Raises:
        DataError: if a class has too few images or groups cannot be divided; with ``trainval``, if there is no test
            split.
    """
    splits = source.splits
    divide = _divider(source)
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


def _divider(source: Source) -> Callable[..., HeldOut]:
    """Return the function that holds out images of ``source``: by groups if it has any, by labels, or by classes."""
    if any(sample.group for sample in source.part("all")):
        return partial(hold_out_groups, multilabel=source.multilabel)
    return hold_out_multilabel if source.multilabel else hold_out


def _check_missing_classes(split: Split) -> None:
    """Warn of classes without images in a split.

    Raises:
        DataError: if the training split lacks a class, or the validation split has no labels at all.
    """
    for name in SPLITS:
        present = {label for sample in split.part(name) for label in labels_of(sample, split.multilabel)}
        missing = sorted(set(split.classes) - present)
        if missing and name == "train":
            raise DataError(
                f"{len(missing)} classes have no image in the training split: a model cannot learn them\n"
                f"{listing(missing)}"
            )
        if name == "val" and not present:
            raise DataError("no image of the validation split has a label: models cannot be compared on it")
        if missing and split.part(name):
            log.warning(
                "%d classes have no image in the %s split and are not measured there\n%s",
                *(len(missing), name, listing(missing)),
            )
