"""Reads weights from PyTorch files, with ``weights_only`` and memory-mapped, and from safetensors. Runs no code."""

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

DESCRIPTION = "effnet_ft"  # the entry of our files with the result of models.classifier.Classifier.describe

# Entries that hold the weights, averaged ones first: timm, torchvision's references, Lightning and OpenMMLab, others.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
# Key prefixes of wrapped models: DistributedDataParallel and AveragedModel, Lightning, torch.compile.
_PREFIXES = ("module.", "model.", "_orig_mod.")
# Entries beside the weights: a counter of AveragedModel, and our description.
_NON_WEIGHTS = ("n_averaged", DESCRIPTION)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file of weights."""

    state: dict[str, Tensor]  # tensors by name, without prefixes; memory-mapped if the format allows
    description: dict[str, Any] | None  # the model's description in our files, see DESCRIPTION; None in others
    part: str = ""  # the entry of the file that held the tensors; empty if it is the file itself


def read_weights(path: Path) -> Checkpoint:
    """Return the tensors of a ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` file, wrapped or not.

    Raises:
        WeightsError: if the file is missing, broken, without weights, or would run code.
    """
    import torch

    loaded = read_file(path)
    description = _description(loaded)
    part = next((name for name in _WRAPPERS if isinstance(loaded.get(name), dict)), "")
    entries = (loaded[part] if part else loaded).items()
    state: dict[str, Any] = _without_prefixes({key: value for key, value in entries if key not in _NON_WEIGHTS})

    if not state or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        kinds = [f"{key} ({type(value).__name__})" for key, value in loaded.items() if value is not None]
        found = ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "") or "nothing"
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, found {found}")
    return Checkpoint(state, description, part)


def read_description(path: Path) -> dict[str, Any] | None:
    """Return the model description in a file of ours, None for any other; safetensors are read without torch."""
    return _description(_read_safetensors(path, "numpy") if _kind(path) == "safetensors" else read_file(path))


def read_file(path: Path) -> dict[str, Any]:
    """Return the top-level entries of a file.

    Raises:
        WeightsError: if the file is missing, broken, of another kind, or would run code.
    """
    import torch

    kind = _kind(path)
    if kind == "safetensors":
        return _read_safetensors(path, "pt")
    try:
        # timm and torchvision's references save their command line, an argparse.Namespace, which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
    except Exception as error:  # torch raises many kinds for a broken file
        raise WeightsError(f"{path} {_explain_torch_error(error, path, kind)}") from error
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, found a {type(loaded).__name__}")
    return loaded


@contextmanager
def naming_file(path: Path | str) -> Iterator[None]:
    """Add the file's name to a :class:`WeightsError`."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _read_safetensors(path: Path, framework: str) -> dict[str, Any]:
    """Return the description and, in the framework ``pt``, the tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework) as file:
            description = json.loads((file.metadata() or {}).get(DESCRIPTION, "null"))
            tensors = {key: file.get_tensor(key) for key in file.offset_keys()} if framework == "pt" else {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}): get it again") from error
    return {**tensors, DESCRIPTION: description}


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
    # Before pickle: the length at the start of a safetensors file may look like a pickle's first byte.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= max(size, 100_000_000):
        return "safetensors"
    if start[:1] == b"\x80":
        return "pickle"
    if all(byte in b"\t\n\r" or byte >= 32 for byte in start):
        words = start[:40].decode("utf-8", errors="replace").strip().splitlines()
        raise WeightsError(f"{path} is text, not weights; it begins '{words[0] if words else ''}': get the file itself")
    raise WeightsError(
        f"{path} is not a file of weights, neither PyTorch's nor safetensors; it begins {start[:8].hex(' ')}"
    )


def _explain_torch_error(error: Exception, path: Path, kind: str) -> str:
    text = str(error)
    if match := re.search(r"nsupported (?:global: GLOBAL|GLOBAL|class|operand|instruction) (\S+)", text):
        what = "another Python pickle" if match[1].isdigit() else f"'{match[1]}'"
        return (
            f"holds more than weights: {what} in it would run code when it is read. It was refused, and nothing in "
            "it was run. If you trust its author, ask for the state dict alone, saved by torch.save or as safetensors"
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


def _without_prefixes(state: dict[str, Any]) -> dict[str, Any]:
    """Remove prefixes that all keys have, repeatedly."""
    for prefix in _PREFIXES:
        if state and all(isinstance(key, str) and key.startswith(prefix) for key in state):
            return _without_prefixes({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def _description(loaded: dict[str, Any]) -> dict[str, Any] | None:
    """Return the description from a checkpoint of ours, an export's attribute, or OpenMMLab's ``meta``."""
    meta = loaded.get("meta")
    in_meta = meta.get(DESCRIPTION) if isinstance(meta, dict) else None
    for found in (loaded.get(DESCRIPTION), getattr(loaded, DESCRIPTION, None), in_meta):
        if found and isinstance(found, dict):
            return found.get("model", found)
    return None
