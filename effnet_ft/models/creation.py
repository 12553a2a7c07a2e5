"""Creates classifiers with pretrained weights."""

import logging
from collections.abc import Sequence
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
from effnet_ft.utils.text import counted, did_you_mean

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
    """Build a classifier, with or without pretrained weights.

    The pretrained classifier is kept if its classes are those requested, else replaced by a new head; the log says so.

    Args:
        variant: ``b0``-``b8`` or ``lite0``-``lite4``.
        weights: a family (``in1k``, ``aa``, ``advprop``, ``torchvision``, ``torchvision-v2``, ``lite``), the path or
            the URL of a file in any known layout, ``auto`` (the family with the best published top-1), ``none`` or
            None.
        family: how a file was trained, which decides the normalisation, if neither its name nor its content says it.
        num_classes: number of classes without names; 1,000 means ImageNet's.
        classes: class names, in the order of the logits; by default ImageNet's WordNet ids.
        head: ``linear``, ``mlp`` or ``cosine``.
        dropout: rate before the classifier; None means the variant's.
        drop_path: stochastic depth of the last block.
        task: ``single``, one class per image, or ``multi``, any number of labels.

    Returns:
        The model, in evaluation mode, every stage trainable.

    Raises:
        ValueError: for an unknown variant or head, or class arguments that contradict each other.
        WeightsError: if the weights cannot be downloaded or read, or do not fit.
    """
    for name, value, table in (("variant", variant, VARIANTS), ("head", head, HEADS)):
        if value not in table:
            raise ValueError(
                f"{name} is {value!r}, expected one of {', '.join(table)}{did_you_mean(value, list(table))}"
            )
    names = _class_names(num_classes, classes)
    rates = {"dropout": dropout, "drop_path": drop_path}
    settings: dict[str, Any] = {"classes": names, "head": head, "task": task, **rates}
    record = resolve_weights(variant, weights or "none", family)
    if record is None:
        return Classifier(variant, **settings).eval()
    file = weights_file(record)
    checkpoint = read_weights(file)
    with naming_file(file):
        return _build_with_weights(record, checkpoint, settings).eval()


def _class_names(num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None:
        if num_classes not in (None, len(classes)):
            raise ValueError(f"num_classes is {num_classes}, but {len(classes)} class names are given")
        return tuple(classes)
    imagenet = imagenet_classes()
    if num_classes in (None, len(imagenet)):
        return imagenet
    if num_classes is None or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, expected at least 1")
    return tuple(str(number) for number in range(num_classes))


def _build_with_weights(record: WeightsRecord, checkpoint: Checkpoint, settings: dict[str, Any]) -> Classifier:
    """Return a model with the weights of ``checkpoint``, all of which must fit but the classifier."""
    own = checkpoint.description
    if own is not None:
        record = _as_described(record, own)
    layout, variant = key_maps.detect_layout(checkpoint.state)
    if variant not in ("", record.variant):
        raise WeightsError(f"it holds weights of {variant}, the model is {record.variant}: use model.variant={variant}")
    state = key_maps.to_our_keys(checkpoint.state, VARIANTS[record.variant], layout)
    settings |= {"padding": record.padding, "norm_eps": record.norm_eps, "preprocessing": record.preprocessing}
    model = Classifier.empty(record.variant, **settings)
    keep_head, head_message = _compare_heads(model, state, own)
    state = {key: value for key, value in state.items() if keep_head or not key.startswith("head.")}
    load_state(model, state)
    part = f" of its {checkpoint.part}" if checkpoint.part else ""
    log.info("weights %s (%s layout): %d tensors%s loaded, %s", record.name, layout, len(state), part, head_message)
    return model


def _as_described(record: WeightsRecord, own: dict[str, Any]) -> WeightsRecord:
    """Return ``record`` with the settings of the file's own description; refuse a given family that contradicts it."""
    view = Preprocessing.from_dict(own["preprocessing"])
    described = replace(record, padding=own["padding"], norm_eps=own["norm_eps"], preprocessing=view)
    family_given = record.family not in ("own", family_of_name(record.file))
    with_family = replace(view, mean=record.preprocessing.mean, std=record.preprocessing.std)
    if family_given and replace(record, preprocessing=with_family) != described:
        raise WeightsError(f"its own description contradicts the family {record.family}: leave model.family out")
    return described


def _compare_heads(model: Classifier, state: dict[str, Tensor], own: dict[str, Any] | None) -> tuple[bool, str]:
    """Return whether to keep the file's classifier, and a message."""
    count = len(model.classes)
    new = f"new head with {counted(count, 'class')}"
    theirs = {key: value.shape for key, value in state.items() if key.startswith("head.")}
    ours = {key: value.shape for key, value in model.head.state_dict(prefix="head.").items()}
    if not theirs:
        return False, f"no classifier in the file; {new}"
    outputs = [0, *(shape[0] for shape in theirs.values() if len(shape) == 2)][-1]
    discarded = f"{outputs}-class classifier discarded; {new}"
    if own is not None:
        same_task = list(own["classes"]) == list(model.classes) and own.get("task", "single") == model.task
        return (True, "classifier kept") if same_task and theirs == ours else (False, discarded)
    if theirs.keys() != ours.keys() or outputs != count:
        return False, discarded
    if model.classes == imagenet_classes():
        return True, "classifier kept"
    if count == len(imagenet_classes()):
        return False, f"ImageNet classifier discarded; {new}"
    return True, f"{count}-class classifier kept; the file has no class names, the given order is assumed"
