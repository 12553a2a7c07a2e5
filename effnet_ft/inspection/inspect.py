"""The story of an inspection: list, look, compare, judge."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.sources.opening import HASHED
from effnet_ft.data.sources.source import SPLITS, Source, labels_of
from effnet_ft.data.splits.split import Split, encode_labels, make_split
from effnet_ft.errors import DataError, RecipeError
from effnet_ft.inspection.duplicates import find_duplicates
from effnet_ft.inspection.features import pooled_features
from effnet_ft.inspection.file_scan import scan_files
from effnet_ft.inspection.findings import DuplicateGroup, Image, Inspection, SuspectLabel
from effnet_ft.inspection.label_issues import find_label_issues, find_multilabel_issues, out_of_fold_probabilities
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
        recipe: names the images, the pretrained network that looks at them and, by its seed and its fractions, how a
            training would divide them.
        quick: without the network: labels are not judged, and only plain copies are found.

    Raises:
        DataError: where there are no images to inspect.
        RecipeError: where there is no pretrained network.
        WeightsError: where its weights cannot be had.
    """
    start = time.perf_counter()
    weights = choose_weights(recipe.model, recipe.data)
    if not quick and weights.model.weights == "none":
        raise RecipeError("model.weights is 'none': random weights cannot judge labels; name weights, or add --quick")
    cache = ArrayCache()
    source = _listed(recipe.data)
    samples = source.part("all")
    looks = scan_files([source.root / sample.path for sample in samples], cache)
    reasons = {s.path: reason.decode() for s, reason in zip(samples, looks["reason"], strict=True) if reason}
    readable = _without(source, set(reasons))
    split, refused = _divided(readable, recipe)
    samples, kept = readable.part("all"), looks[looks["reason"] == b""]
    images = _images(readable, split)
    features = None if quick or not samples else pooled_features(recipe, split, samples, cache)
    groups = find_duplicates(kept, features)
    sides = np.minimum(kept["width"], kept["height"])
    return Inspection(
        root=source.root,
        parts={part: len(listed) for part, listed in source.splits.items()},
        counts=_counts(readable),
        sides=(int(sides.min()), int(np.median(sides)), int(sides.max())) if len(sides) else (0, 0, 0),
        size=weights.image_size,
        smaller=int((sides < weights.image_size).sum()),
        formats={name.decode(): count for name, count in Counter(kept["format"].tolist()).most_common()},
        unreadable=reasons,
        ignored=source.ignored,
        camera=source.unread_photographs,
        refused=refused,
        odd=find_unusual_files([sample.path for sample in samples], kept),
        copies=_copies(images, groups, kept["digest"]),
        suspicions=None if quick else _suspicions(readable, images, features, groups, recipe),
        seconds=time.perf_counter() - start,
    )


def _listed(settings: DataSettings) -> Source:
    """Return the labelled images, those of classes that a training refuses included."""
    if settings.source == "folder":
        return scan_folder(settings.given_root, for_training=False, empty_classes=True)
    source = open_images(settings, for_training=False)
    if source.members:
        raise DataError(f"{source.root} holds an archive of images: unpack it, files alone can be checked")
    return source


def _without(source: Source, paths: set[str]) -> Source:
    splits = {part: [s for s in listed if s.path not in paths] for part, listed in source.splits.items()}
    return replace(source, splits=splits)


def _divided(source: Source, recipe: Recipe) -> tuple[Split, str]:
    """Return the parts of a training with ``recipe``, or those that the images lie in and why it refuses them."""
    data = recipe.data
    try:
        if data.source not in HASHED:  # which take long to list, and are whole or told already
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
    """Return the images of every class by part, those of classes without images too."""
    found: Counter[tuple[str, str]] = Counter()
    for part, listed in source.splits.items():
        found.update((name, part) for sample in listed for name in labels_of(sample, source.multilabel))
    names = sorted({*source.classes, *(name for name, _ in found)})
    return {name: {part: found[name, part] for part in source.splits} for name in names}


def _copies(images: Sequence[Image], groups: np.ndarray, digests: np.ndarray) -> list[DuplicateGroup]:
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(index)
    found = [
        DuplicateGroup(tuple(images[index] for index in group), len(set(digests[group].tolist())) == 1)
        for group in members.values()
        if len(group) > 1
    ]
    return sorted(found, key=lambda copies: copies.rank)


def _suspicions(
    source: Source, images: Sequence[Image], features: np.ndarray | None, groups: np.ndarray, recipe: Recipe
) -> list[SuspectLabel]:
    samples = source.part("all")
    classes = sorted({name for sample in samples for name in labels_of(sample, source.multilabel)})
    targets = encode_labels(samples, classes, source.multilabel, as_matrix=True)
    if features is None or len(classes) < (1 if source.multilabel else 2):
        return []
    device = torch_device(plan_trainer(recipe.trainer, machine_facts())[0])
    probabilities = out_of_fold_probabilities(features, targets, groups, device, recipe.seed)
    if source.multilabel:
        return [
            SuspectLabel(
                images[doubt.index],
                classes[doubt.label],
                "" if targets[doubt.index, doubt.label] else classes[doubt.label],
                *(doubt.given, doubt.other, doubt.strong),
            )
            for doubt in find_multilabel_issues(probabilities, targets)
        ]
    return [
        SuspectLabel(
            images[doubt.index],
            classes[doubt.label],
            classes[doubt.likelier],
            *(doubt.given, doubt.other, doubt.strong),
        )
        for doubt in find_label_issues(probabilities, targets.argmax(1))
    ]
