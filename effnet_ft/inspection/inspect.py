"""Inspects a data set: lists the images, scans the files, finds duplicates and label issues."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.sources.opening import HASHED
from effnet_ft.data.sources.source import SPLITS, Source, labels_of
from effnet_ft.data.splits.split import Split, encode_labels, make_split
from effnet_ft.errors import DataError, RecipeError
from effnet_ft.inspection.duplicates import find_duplicates
from effnet_ft.inspection.features import pooled_features
from effnet_ft.inspection.file_scan import scan_files
from effnet_ft.inspection.findings import DuplicateGroup, Image, Inspection, SuspectLabel
from effnet_ft.inspection.label_issues import (
    LabelIssue,
    find_label_issues,
    find_multilabel_issues,
    out_of_fold_probabilities,
)
from effnet_ft.inspection.unusual_files import find_unusual_files
from effnet_ft.planning.devices import plan_trainer, torch_device
from effnet_ft.planning.facts import machine_facts
from effnet_ft.planning.weights import choose_weights
from effnet_ft.recipe import DataSettings, Recipe
from effnet_ft.recipe.images import open_images
from effnet_ft.utils.array_cache import ArrayCache


def inspect(recipe: Recipe, quick: bool = False) -> Inspection:
    """Inspect the images of a recipe.

    Args:
        recipe: names the images, the pretrained network and the random split.
        quick: skip the network: labels are not checked, and only plain duplicates are found.

    Raises:
        DataError: if there are no images.
        RecipeError: if the recipe has no pretrained weights.
        WeightsError: if they are not available.
    """
    start = time.perf_counter()
    weights = choose_weights(recipe.model, recipe.data)
    if not quick and weights.model.weights == "none":
        raise RecipeError("model.weights is 'none': random weights cannot check labels; choose weights or add --quick")
    cache = ArrayCache()
    source = _list_images(recipe.data)
    samples = source.part("all")
    records = scan_files([source.root / sample.path for sample in samples], cache)
    reasons = {s.path: reason.decode() for s, reason in zip(samples, records["reason"], strict=True) if reason}
    splits = {part: [s for s in listed if s.path not in reasons] for part, listed in source.splits.items()}
    readable, records = replace(source, splits=splits), records[records["reason"] == b""]
    split, refused = _split_of_training(readable, recipe)
    samples, images = readable.part("all"), _images(readable, split)
    features = None
    if samples and not quick:
        trainer, _ = plan_trainer(recipe.trainer, machine_facts(cache))
        features = pooled_features(weights, trainer, split, samples, cache)
    groups = find_duplicates(records, features)
    suspects: list[SuspectLabel] | None = None if quick else []
    if features is not None:
        suspects = _suspect_labels(readable, images, features, groups, torch_device(trainer), recipe.seed)
    sides = np.minimum(records["width"], records["height"])
    return Inspection(
        root=source.root,
        parts={part: len(listed) for part, listed in source.splits.items()},
        counts=_counts(readable),
        sides=(int(sides.min()), int(np.median(sides)), int(sides.max())) if len(sides) else (0, 0, 0),
        size=weights.image_size,
        smaller=int((sides < weights.image_size).sum()),
        formats={name.decode(): count for name, count in Counter(records["format"].tolist()).most_common()},
        unreadable=reasons,
        ignored=source.ignored,
        camera=source.unread_photographs,
        refused=refused,
        odd=find_unusual_files([sample.path for sample in samples], records),
        copies=_duplicate_groups(images, groups, records["digest"]),
        suspicions=suspects,
        seconds=time.perf_counter() - start,
    )


def _list_images(data: DataSettings) -> Source:
    """Return the labelled images, also where training would refuse them."""
    if data.source == "folder":
        return scan_folder(data.given_root, for_training=False, empty_classes=True)
    source = open_images(data, for_training=False)
    if source.members:
        raise DataError(f"{source.root} is an archive of images: unpack it, only files can be checked")
    return source


def _split_of_training(source: Source, recipe: Recipe) -> tuple[Split, str]:
    """Return the split that training would use; if it refuses the images, their folders and the reason."""
    data = recipe.data
    try:
        if data.source not in HASHED:  # those are slow to list, and already checked
            open_images(data)
        val, test = data.val_fraction, data.test_fraction
        return make_split(source, val_fraction=val, test_fraction=test, seed=recipe.seed), ""
    except (DataError, KeyError) as error:  # no train/, a class of one image, and the like
        train = source.splits.get("all", source.part("train"))
        parts = (train, source.part("val"), source.part("test"))
        return Split(source.root, source.classes, *parts, source.multilabel), str(error) * isinstance(error, DataError)


def _images(source: Source, split: Split) -> list[Image]:
    fates = {sample.path: part for part in SPLITS for sample in split.part(part)}
    return [
        Image(sample.path, sample.label, part, fates[sample.path])
        for part, listed in source.splits.items()
        for sample in listed
    ]


def _counts(source: Source) -> dict[str, dict[str, int]]:
    """Return the number of images per class and part, empty classes included."""
    counts: Counter[tuple[str, str]] = Counter()
    for part, listed in source.splits.items():
        counts.update((name, part) for sample in listed for name in labels_of(sample, source.multilabel))
    names = sorted({*source.classes, *(name for name, _ in counts)})
    return {name: {part: counts[name, part] for part in source.splits} for name in names}


def _duplicate_groups(images: Sequence[Image], groups: np.ndarray, digests: np.ndarray) -> list[DuplicateGroup]:
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(index)
    duplicates = [
        DuplicateGroup(tuple(images[index] for index in group), len(set(digests[group].tolist())) == 1)
        for group in members.values()
        if len(group) > 1
    ]
    return sorted(duplicates, key=lambda group: group.rank)


def _suspect_labels(
    source: Source, images: Sequence[Image], features: np.ndarray, groups: np.ndarray, device: torch.device, seed: int
) -> list[SuspectLabel]:
    samples = source.part("all")
    classes = sorted({name for sample in samples for name in labels_of(sample, source.multilabel)})
    if len(classes) < (1 if source.multilabel else 2):
        return []
    targets = encode_labels(samples, classes, source.multilabel, as_matrix=True)
    probabilities = out_of_fold_probabilities(features, targets, groups, device, seed)
    if source.multilabel:
        issues = find_multilabel_issues(probabilities, targets)
    else:
        issues = find_label_issues(probabilities, targets.argmax(1))

    def likelier(issue: LabelIssue) -> str:
        may_be_wrong = source.multilabel and targets[issue.index, issue.label]
        return "" if may_be_wrong else classes[issue.likelier]

    return [SuspectLabel(images[i.index], classes[i.label], likelier(i), i.given, i.other, i.strong) for i in issues]
