"""Inspects a data set: lists the images, scans the files, finds duplicates and label issues."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, replace

import numpy as np
import torch

from effnet_ft.activations.store import ActivationStore, ComputeSettings, Overflow
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.sources.source import SPLITS, Source, labels_of
from effnet_ft.data.splits.split import Split, encode_labels, make_split
from effnet_ft.errors import DataError, MachineError, RecipeError
from effnet_ft.inspection.duplicates import find_duplicates
from effnet_ft.inspection.file_scan import find_unusual_files, scan_files
from effnet_ft.inspection.findings import DuplicateGroup, Image, Inspection, SuspectLabel
from effnet_ft.inspection.label_issues import find_label_issues, find_multilabel_issues, out_of_fold_probabilities
from effnet_ft.models.variants import STAGES
from effnet_ft.planning.devices import AUTOCAST, plan_trainer, torch_device
from effnet_ft.planning.facts import machine_facts
from effnet_ft.planning.weights import WeightsChoice, choose_weights
from effnet_ft.recipe import DataSettings, Recipe
from effnet_ft.recipe.images import HASHED, open_images
from effnet_ft.recipe.plan import TrainerPlan
from effnet_ft.training.setup import build_model
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
        MachineError: if the cache cannot be written.
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
    fates = {sample.path: part for part in SPLITS for sample in split.part(part)}
    images = [Image(s.path, s.label, part, fates[s.path]) for part, listed in splits.items() for s in listed]
    samples, features = readable.part("all"), None
    if samples and not quick:
        trainer, _ = plan_trainer(recipe.trainer, machine_facts(cache))
        rows = _pooled_features(weights, trainer, split, cache)
        features = np.stack([rows[sample.path] for sample in samples])
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


def _pooled_features(
    weights: WeightsChoice, trainer: TrainerPlan, split: Split, cache: ArrayCache
) -> dict[str, np.ndarray]:
    """Return the pooled features of all images of ``split``, by path.

    They are stored: a later training of the same recipe and the next inspection find them.
    """
    model = build_model(weights.model, weights.image_size, weights.crop, split)
    settings = ComputeSettings(device=torch_device(trainer), autocast=AUTOCAST.get(trainer.precision))
    rows: dict[str, np.ndarray] = {}
    try:
        for part in filter(split.part, SPLITS):
            try:
                features = ActivationStore(split, settings, cache).evaluated(model, part, STAGES)
            except Overflow:
                settings = replace(settings, dtype="float32")
                features = ActivationStore(split, settings, cache).evaluated(model, part, STAGES)
            assert features is not None, "no limit was set"
            rows.update((sample.path, row) for sample, row in zip(split.part(part), features, strict=True))
    except OSError as error:
        raise MachineError(
            f"cannot write to {cache.folder} ({error}): set EFFNET_FT_CACHE to a folder with free space"
        ) from error
    return rows


def _counts(source: Source) -> dict[str, dict[str, int]]:
    """Return the number of images per class and part, empty classes included."""
    counts: Counter[tuple[str, str]] = Counter()
    for part, listed in source.splits.items():
        counts.update((name, part) for sample in listed for name in labels_of(sample, source.multilabel))
    names = sorted({*source.classes, *(name for name, _ in counts)})
    return {name: {part: counts[name, part] for part in source.splits} for name in names}


def _duplicate_groups(images: Sequence[Image], groups: np.ndarray, digests: np.ndarray) -> list[DuplicateGroup]:
    """Return the groups of two or more images, the most serious first."""
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(index)
    found = [
        DuplicateGroup(tuple(images[index] for index in group), len(set(digests[group].tolist())) == 1)
        for group in members.values()
        if len(group) > 1
    ]
    return sorted(found, key=lambda each: (not each.across, not each.contradictory, not each.torn, not each.exact))


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
    classes.append("")  # the likelier class, with the index -1, of a label that may be wrong
    return [
        SuspectLabel(images[each.index], classes[each.label], classes[each.likelier], *astuple(each)[3:])
        for each in issues
    ]
