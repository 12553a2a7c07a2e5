"""Which image is for training, which for validation, which for the test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from effnet_ft.data.sources.source import SPLITS, Sample, Source, labels_of
from effnet_ft.data.splits.holdout import Divided, hold_out, hold_out_groups, hold_out_labels
from effnet_ft.errors import DataError
from effnet_ft.utils.text import listing

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
        return encode_labels(samples, self.classes, self.multilabel)


def encode_labels(
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
    if divide is not hold_out:
        _tell_missing(split)
    if fit == "trainval":
        if not split.test:
            raise DataError(
                f"data.fit is 'trainval', but {source.root} has no test images: "
                "the result would be measured on images that were trained on"
            )
        return replace(split, train=[*split.train, *split.val])
    return split


def _carver(source: Source) -> Callable[..., Divided]:
    """Return what divides the samples of ``source``: by groups where it has some, by labels, or by classes."""
    if any(sample.group for sample in source.part("all")):
        return partial(hold_out_groups, multilabel=source.multilabel)
    return hold_out_labels if source.multilabel else hold_out


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
