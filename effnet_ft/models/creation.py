"""Models with pretrained weights: the record, its file, the file's layout and its classifier brought together."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from effnet_ft.errors import WeightsError
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.heads import HEADS
from effnet_ft.models.skip_init import load_state
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights import key_maps
from effnet_ft.models.weights.download import weights_file
from effnet_ft.models.weights.files import Checkpoint, naming_file, read_weights
from effnet_ft.models.weights.resolving import family_of_name, resolve_weights
from effnet_ft.models.weights.table import WeightsRecord
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.utils.text import did_you_mean

log = logging.getLogger(__name__)


def create_model(
    variant: str,
    weights: str | None = "auto",
    *,
    family: str = "auto",
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    head: str = "linear",
    dropout: float | None = None,
    drop_path: float = 0.2,
    task: str = "single",
) -> Classifier:
    """Build a classifier, with pretrained weights or without.

    The pretrained classifier is kept where its classes are those asked for; else a new head is drawn: the log says.

    Args:
        variant: ``b0``-``b8`` or ``lite0``-``lite4``.
        weights: a family (``in1k``, ``aa``, ``advprop``, ``torchvision``, ``torchvision-v2``, ``lite``), the path or
            the URL of a file in any known layout, ``auto`` (the variant's family of the best published top-1) or
            ``none``; Python's ``None`` means ``none``.
        family: how a file was trained, where neither its name nor its content says it; it decides the normalisation.
        num_classes: how many classes, where they have no names; 1,000 are taken as ImageNet's.
        classes: their names, in the order of the logits; ImageNet's WordNet ids where nothing is given.
        head: ``linear``, ``mlp`` or ``cosine``.
        dropout: rate before the classifier; None takes the variant's.
        drop_path: stochastic depth of the last block.
        task: ``single``, a class an image, or ``multi``, any number of labels.

    Returns:
        The model, in evaluation mode, every stage trainable.

    Raises:
        ValueError: for an unknown variant or head, or class arguments that contradict each other.
        WeightsError: where the weights cannot be had or do not fit.
    """
    for name, value, table in (("variant", variant, VARIANTS), ("head", head, HEADS)):
        if value not in table:
            raise ValueError(
                f"{name} is {value!r}, expected one of {', '.join(table)}{did_you_mean(value, list(table))}"
            )
    names = _class_names(num_classes, classes)
    settings: dict[str, Any] = {
        "classes": names,
        "head": head,
        "dropout": dropout,
        "drop_path": drop_path,
        "task": task,
    }
    record = resolve_weights(variant, weights or "none", family)
    if record is None:
        return Classifier(variant, **settings).eval()
    file = weights_file(record)
    with _without_collector():
        checkpoint = read_weights(file)
        with naming_file(file):
            return _with_weights(record, checkpoint, settings).eval()


def _class_names(num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None:
        if num_classes not in (None, len(classes)):
            raise ValueError(f"num_classes is {num_classes}, but {len(classes)} classes are named")
        return tuple(classes)
    imagenet = imagenet_classes()
    if num_classes in (None, len(imagenet)):
        return imagenet
    if num_classes is None or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, expected at least 1")
    return tuple(str(number) for number in range(num_classes))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector: over thousands of new modules and tensors, it takes longer than making them."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _with_weights(record: WeightsRecord, checkpoint: Checkpoint, settings: dict[str, Any]) -> Classifier:
    """Return a model with the weights of ``checkpoint``; a foreign classifier is left, all else must fit."""
    own = checkpoint.description
    if own is not None:
        record = _as_described(record, own)
    layout, variant = key_maps.detect_layout(checkpoint.state)
    if variant not in ("", record.variant):
        raise WeightsError(
            f"it holds weights of {variant}, the model is {record.variant}: take model.variant={variant}"
        )
    state = key_maps.to_our_keys(checkpoint.state, VARIANTS[record.variant], layout)
    model = Classifier.empty(
        record.variant,
        padding=record.padding,
        norm_eps=record.norm_eps,
        preprocessing=record.preprocessing,
        **settings,
    )
    kept, why = _keeps_head(model, state, own)
    state = {key: value for key, value in state.items() if kept or not key.startswith("head.")}
    load_state(model, state)
    part = f" of its {checkpoint.part}" if checkpoint.part else ""
    log.info("weights %s (%s layout): %d tensors%s loaded, %s", record.name, layout, len(state), part, why)
    return model


def _as_described(record: WeightsRecord, own: dict[str, Any]) -> WeightsRecord:
    """Return ``record`` with what the file says of itself: it knows better than its name, but no family may be given.

    Raises:
        WeightsError: where a family was given that contradicts it.
    """
    view = Preprocessing.from_dict(own["preprocessing"])
    described = replace(record, padding=own["padding"], norm_eps=own["norm_eps"], preprocessing=view)
    given = record.family not in ("own", family_of_name(record.file))
    alike = replace(record, preprocessing=replace(view, mean=record.preprocessing.mean, std=record.preprocessing.std))
    if given and alike != described:
        raise WeightsError(f"it says itself how it was trained, and not as {record.family}: leave model.family out")
    return described


def _keeps_head(model: Classifier, state: dict[str, Tensor], own: dict[str, Any] | None) -> tuple[bool, str]:
    """Return whether the file's classifier fits the model's classes, and what to say of it."""
    count = len(model.classes)
    new = f"a new head of {count} classes"
    theirs = {key: value.shape for key, value in state.items() if key.startswith("head.")}
    wanted = {key: value.shape for key, value in model.head.state_dict(prefix="head.").items()}
    if not theirs:
        return False, f"it has no classifier: {new}"
    outputs = [0, *(shape[0] for shape in theirs.values() if len(shape) == 2)][-1]
    if own is not None:
        alike = list(own["classes"]) == list(model.classes) and own.get("task", "single") == model.task
        kept = alike and theirs == wanted
        return kept, "its classifier kept" if kept else f"its classifier of {outputs} classes left: {new}"
    if theirs.keys() != wanted.keys() or outputs != count:
        return False, f"its classifier of {outputs} classes left: {new}"
    if model.classes == imagenet_classes():
        return True, "its classifier kept"
    if count == len(imagenet_classes()):
        return False, f"its classifier of ImageNet's classes left: {new}"
    return True, f"its classifier of {count} classes kept, which it does not name: taken in the order given"
