"""Reads files of weights of every common kind. Nothing in a file is ever executed.

PyTorch's files are read with ``weights_only``, and mapped into memory rather than copied; safetensors by its library.
"""

from __future__ import annotations

import argparse
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnet_ft.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = "effnet_ft"
"""Under this name a file of ours holds what :meth:`effnet_ft.models.classifier.Classifier.describe` returned."""

# Where trainers keep the weights, the averaged ones first: timm, torchvision's references, Lightning and OpenMMLab,
# fairly everybody.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
# What wrappers of the model leave before the keys: DistributedDataParallel and AveragedModel, Lightning, torch.compile.
_PREFIXES = ("module.", "model.", "_orig_mod.")
# Counters that belong to the averaging, not to the network.
_COUNTERS = ("n_averaged",)


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        state: tensors by name, prefixes removed; mapped from the file where it allows.
        description: of a model of ours, see :data:`DESCRIPTION`; None in other files.
        part: the entry of the file that the tensors were in, empty where they are the file.
    """

    state: dict[str, Tensor]
    description: dict[str, Any] | None
    part: str = ""


def read_weights(path: Path) -> Checkpoint:
    """Return the tensors of a file: ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``, wrapped or not.

    Raises:
        WeightsError: where the file is missing, broken, no weights, or would run code.
    """
    loaded = read_file(path)
    description = _description(loaded)
    part = next((name for name in _WRAPPERS if isinstance(loaded.get(name), dict)), "")
    state: dict[str, Any] = {key: value for key, value in (loaded[part] if part else loaded).items() if _kept(key)}
    state = _without_prefixes(state)
    import torch

    if not state or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, found {_sketch(loaded)}")
    return Checkpoint(state, description, part)


def read_description(path: Path) -> dict[str, Any] | None:
    """Return what a file of ours says of its model, None for any other; torch is imported only where it must be.

    Raises:
        WeightsError: where the file cannot be read.
    """
    if _kind(path) == "safetensors":
        return _described(_safetensors_metadata(path))
    return _description(read_file(path))


def read_file(path: Path) -> dict[str, Any]:
    """Return what the file holds at its top: tensors and plain values by name.

    Raises:
        WeightsError: where the file is missing, broken, of another kind, or would run code.
    """
    import torch

    kind = _kind(path)
    if kind == "safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return {**load_file(path), DESCRIPTION: _described(_safetensors_metadata(path))}
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read as safetensors ({error}): get it again") from error
    try:
        # timm and torchvision's references keep their command line in the file; argparse's namespace is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
    except Exception as error:  # torch raises many kinds for a broken file
        raise WeightsError(f"{path} {_reason(error, path, kind)}") from error
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, found a {type(loaded).__name__}")
    return loaded


@contextmanager
def naming_file(path: Path | str) -> Iterator[None]:
    """Name the file in a :class:`WeightsError` that its content causes."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _kind(path: Path) -> str:
    """Return ``zip`` or ``pickle`` for PyTorch's two formats, or ``safetensors``, by the file's first bytes."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if not start:
        raise WeightsError(f"{path} is empty: get it again")
    if start[:2] == b"PK":
        return "zip"
    # Asked before pickle: the length that safetensors begins with may begin like one, which never is so short.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= max(size, 100_000_000):
        return "safetensors"
    if start[:1] == b"\x80":
        return "pickle"
    if all(byte in b"\t\n\r" or byte >= 32 for byte in start):
        words = start[:40].decode("utf-8", errors="replace").strip().splitlines()
        raise WeightsError(f"{path} is text, no weights; it begins '{words[0] if words else ''}': get the file itself")
    raise WeightsError(
        f"{path} is no file of weights: neither PyTorch's nor safetensors; it begins {start[:8].hex(' ')}"
    )


def _reason(error: Exception, path: Path, kind: str) -> str:
    """Return what torch's error means to the user."""
    text = str(error)
    if found := re.search(r"nsupported (?:global: GLOBAL|GLOBAL|class|operand|instruction) (\S+)", text):
        what = "a Python pickle of its own kind" if found[1].isdigit() else f"'{found[1]}'"
        return (
            f"holds more than weights: {what} in it would run code when it is read. It was refused, and nothing of "
            "it was run. Where you trust its maker, ask for the state dict alone, saved by torch.save or as safetensors"
        )
    if kind == "zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any("/code/" in name for name in names):
            return "is a TorchScript archive, a program with its weights: save the model's state dict instead"
        if not any(name.endswith("data.pkl") for name in names):
            return f"is a zip archive, but not of weights: it holds {', '.join(names[:3]) or 'nothing'}"
    first = text.splitlines()[0] if text else type(error).__name__
    size = path.stat().st_size
    return f"cannot be read as PyTorch weights: it is cut short or damaged, with {size:,} bytes ({first}); get it again"


def _kept(key: Any) -> bool:
    return key not in (*_COUNTERS, DESCRIPTION)


def _without_prefixes(state: dict[str, Any]) -> dict[str, Any]:
    """Remove, again and again, a prefix that every key has."""
    for prefix in _PREFIXES:
        if state and all(isinstance(key, str) and key.startswith(prefix) for key in state):
            return _without_prefixes({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def _description(loaded: dict[str, Any]) -> dict[str, Any] | None:
    """Return the description in a checkpoint of ours, in an export's attribute or in OpenMMLab's ``meta``."""
    meta = loaded.get("meta")
    places = (
        loaded.get(DESCRIPTION),
        getattr(loaded, DESCRIPTION, None),
        meta.get(DESCRIPTION) if isinstance(meta, dict) else None,
    )
    found = next((place for place in places if isinstance(place, dict)), None)
    return found.get("model", found) if found else None


def _safetensors_metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}): get it again") from error


def _described(metadata: dict[str, str]) -> dict[str, Any] | None:
    return json.loads(metadata[DESCRIPTION]) if DESCRIPTION in metadata else None


def _sketch(loaded: dict[str, Any]) -> str:
    entries = [f"{key} ({type(value).__name__})" for key, value in loaded.items() if value is not None]
    return ", ".join(entries[:4]) + (", ..." if len(entries) > 4 else "") if entries else "nothing"
