"""Which weights a recipe names, and how they were trained: by family, file name, or the file's own description.

Normalisation follows from the training and is never guessed: without any of these the user is asked. Imports torch only
for files written by this project.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

from effnet_ft.errors import WeightsError
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.table import FAMILIES, WEIGHTS, WeightsRecord, record_of_family
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.utils.text import did_you_mean, shorten

_FAMILY_PATTERNS = (
    (r"efficientnet-b\d_\w*8xb32-(aa-advprop|01norm)_in1k", "advprop"),
    (r"efficientnet-b\d_\w*8xb32-aa_in1k", "aa"),
    (r"efficientnet-b\d_\w*8xb32_in1k", "in1k"),
    (r"tf_efficientnet_b\d[_.]ap[-_.]", "advprop"),
    (r"tf_efficientnet_b\d[_.]aa[-_.]", "aa"),
    (r"tf_efficientnet_b\d\.in1k", "in1k"),
    (r"adv-efficientnet-b\d-", "advprop"),
    (r"efficientnet_b\d_(rwightman|lukemelas)-", "torchvision"),
    (r"(tf_efficientnet_|efficientnet-)lite[0-4][-_.]", "lite"),
)


def families_of(variant: str) -> list[str]:
    """Return the families that have weights for ``variant``."""
    return [record.family for record in WEIGHTS.values() if record.variant == variant]


def default_family(variant: str) -> str:
    """Return what ``weights: auto`` means: the family with the best published top-1, or ``none`` without weights."""
    records = [record for record in WEIGHTS.values() if record.variant == variant]
    return max(records, key=lambda record: record.top1 or 0).family if records else "none"


def resolve_weights(variant: str, weights: str, family: str = "auto") -> WeightsRecord | None:
    """Return the record of ``weights``: a family, ``auto``, a path or a URL; None for ``none``.

    ``family`` is that of a file whose name and content do not give it.

    Raises:
        WeightsError: if there are none, or the arguments contradict each other.
    """
    if family not in ("auto", *FAMILIES):
        raise WeightsError(f"model.family is '{family}', expected one of auto, {', '.join(FAMILIES)}")
    if weights in FAMILIES or weights in ("auto", "none"):
        record = _record_of_name(variant, weights)
        if family not in ("auto", record.family if record else "auto"):
            raise WeightsError(f"model.family is '{family}', but model.weights is '{weights}': leave model.family out")
        return record
    path = os.path.expanduser(weights)
    if is_url(weights) or os.path.isfile(path):
        return _record_of_file(variant, path, family)
    if os.path.isdir(path):
        raise WeightsError(f"model.weights is '{weights}', which is a folder: name a file in it")
    known = ["auto", "none", *FAMILIES]
    choices = f"{', '.join(known)}{did_you_mean(weights, known)}"
    raise WeightsError(f"model.weights is '{shorten(weights)}', which is neither a file nor a URL nor one of {choices}")


def weights_named(name: str) -> WeightsRecord:
    """Return the record of ``VARIANT/FAMILY``, or of a variant's default weights; WeightsError if there is none."""
    variant, _, family = name.partition("/")
    if variant not in VARIANTS:
        close = did_you_mean(name, [*WEIGHTS, *VARIANTS])
        raise WeightsError(f"no weights are called '{name}'{close}; 'effnet-ft models --weights' lists them")
    record = _record_of_name(variant, family or "auto") if family in ("", *families_of(variant)) else None
    if record is None:
        raise WeightsError(f"there is no '{name}'; {variant} has: {', '.join(families_of(variant)) or 'no weights'}")
    return record


def is_url(weights: str) -> bool:
    """Return whether ``weights`` is an address to download from."""
    return weights.startswith(("http://", "https://"))


def family_of_name(name: str) -> str:
    """Return the family according to a file name, or an empty string."""
    published = next((record.family for record in WEIGHTS.values() if record.file == name), "")
    return published or next((family for pattern, family in _FAMILY_PATTERNS if re.match(pattern, name)), "")


def scratch_preprocessing(variant: str) -> Preprocessing:
    """Return the preprocessing for random weights: the paper's, at the variant's size."""
    size = VARIANTS[variant].size
    return Preprocessing(size=size, resize=size + 32)


def _record_of_name(variant: str, weights: str) -> WeightsRecord | None:
    available = families_of(variant)
    if weights == "none":
        return None
    if weights == "auto" and not available:
        raise WeightsError(
            f"model.weights: there are no weights for {variant}; give a file, none, or a variant that has weights"
        )
    family = default_family(variant) if weights == "auto" else weights
    if family not in available:
        choices = ", ".join([*available, "a file", "none"])
        raise WeightsError(f"model.weights is '{weights}', which has no {variant}; {variant} has: {choices}")
    return WEIGHTS[f"{variant}/{family}"]


def _record_of_file(variant: str, weights: str, family: str) -> WeightsRecord:
    """Return the record of a file: its published one, that of its description, or one of its family."""
    # A URL is split at the last slash before its query.
    folder, name = re.findall("(?s)([^?]*)/(.*)", weights)[0] if is_url(weights) else os.path.split(weights)
    named_family = family_of_name(name)
    published = next((record for record in WEIGHTS.values() if record.file == name), None)
    if named_family and family not in ("auto", named_family):
        raise WeightsError(f"model.family is '{family}', but the file's name says {named_family}: {name}")
    if family == "auto" and not published and not is_url(weights) and (own := _own_record(weights)):
        record = own
    elif family == "auto" and not named_family:
        raise WeightsError(_unknown_family(weights))
    else:
        family = named_family or family
        similar = WEIGHTS.get(f"{variant}/{family}") or record_of_family(variant, family, name, folder)
        unknown = {} if published else {"file": name, "layout": "", "top1": None, "top5": None}
        record = replace(published or similar, address=folder, **unknown)  # type: ignore[arg-type]
    if record.variant != variant:
        raise WeightsError(
            f"{weights} holds weights of {record.variant}, the model is {variant}: "
            f"use model.variant={record.variant} or other weights"
        )
    return record


def _own_record(weights: str) -> WeightsRecord | None:
    """Return the record of a file that this project wrote; None for any other."""
    from effnet_ft.models.weights.files import read_description

    own = read_description(Path(weights))
    if own is None:
        return None
    folder, file = os.path.split(weights)
    view = Preprocessing.from_dict(own["preprocessing"])
    return WeightsRecord(own["variant"], "own", file, folder, own["padding"], own["norm_eps"], view)


def _unknown_family(weights: str) -> str:
    families = "\n".join(
        f"  - {name}: {kind.training}; mean {kind.mean[0]:g}, std {kind.std[0]:g} of red, {kind.padding} padding"
        for name, kind in FAMILIES.items()
    )
    return (
        f"model.weights is '{weights}': neither its name nor its content says how it was trained, and so how images "
        f"must be normalised; give it as model.family=...\n{families}"
    )
