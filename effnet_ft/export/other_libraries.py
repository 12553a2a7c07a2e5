"""Weights for other libraries: timm, torchvision and OpenMMLab.

A file also holds the model's description, where the other library does not mind it: read back here, classes and
preprocessing are there.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnet_ft.errors import ExportError, UsageError
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.files import DESCRIPTION
from effnet_ft.models.weights.key_maps import from_our_keys
from effnet_ft.models.weights.table import WEIGHTS

if TYPE_CHECKING:
    from effnet_ft.models.classifier import Classifier


def quoted(path: Path) -> str:
    """Return ``path`` as it stands in code: with backslashes and quotes that mean themselves."""
    return json.dumps(str(path), ensure_ascii=False)


def usage_of(model: Classifier, library: str, path: Path) -> str:
    """Return the code that loads the file in the other library.

    Args:
        model: the trained model.
        library: a name in :data:`LIBRARIES`.
        path: the file; it ends in ``.safetensors`` for that container, else PyTorch's own is written.

    Raises:
        ExportError: where the library has no such model, or would compute other numbers from it.
    """
    description = model.describe()
    usage = LIBRARIES[library](description, path)
    if library == "openmmlab" and path.suffix == ".safetensors":
        raise UsageError(f"'{path}': OpenMMLab reads no safetensors; let the name end in .pth")
    if description["head"] != "linear":
        raise ExportError(
            f"the model has the head '{description['head']}', {library} a linear one only: take --format safetensors"
        )
    if library == "openmmlab" and model.multilabel:
        raise ExportError("the model tells labels, OpenMMLab's head classes: take --format timm or safetensors")
    if model.multilabel:
        limits = ", ".join(f"{threshold:.4g}" for threshold in model.thresholds)
        usage += f"\n# of the logits the sigmoid, not the softmax; labels hold from these probabilities: {limits}"
    return usage


def write(model: Classifier, library: str, path: Path) -> None:
    """Write the model's weights under another library's names.

    Raises:
        OSError, RuntimeError: where the file cannot be written.
    """
    import torch

    description = model.describe()
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    state = from_our_keys(state, model.variant, library)
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        # Its save_file makes files that nobody but their owner may read.
        path.write_bytes(save(state, {DESCRIPTION: json.dumps(description), "format": "pt"}))
    elif library == "openmmlab":
        names = {"classes": description["classes"]}
        torch.save({"state_dict": state, "meta": {"dataset_meta": names, DESCRIPTION: description}}, path)
    else:
        plain = OrderedDict(state)  # an attribute of it is saved with it, and no reader of state dicts minds it
        setattr(plain, DESCRIPTION, description)
        torch.save(plain, path)


def _torchvision(model: dict[str, Any], path: Path) -> str:
    variant = model["variant"]
    if variant not in _IN_TORCHVISION:
        raise ExportError(f"torchvision has no {variant}: take --format timm or safetensors")
    _require("torchvision", model, "symmetric", _IN_TORCHVISION[variant])
    make = f"model = torchvision.models.efficientnet_{variant}(num_classes={len(model['classes'])})"
    read = "safetensors.torch.load_file" if path.suffix == ".safetensors" else "torch.load"
    return f"{make}\nmodel.load_state_dict({read}({quoted(path)}))"


def _timm(model: dict[str, Any], path: Path) -> str:
    same = model["padding"] == "same"
    name = f"{'tf_' if same else ''}efficientnet_{model['variant']}"
    eps = "" if model["norm_eps"] == (1e-3 if same else 1e-5) else f", bn_eps={model['norm_eps']:g}"
    return f'timm.create_model("{name}", num_classes={len(model["classes"])}{eps}, checkpoint_path={quoted(path)})'


def _openmmlab(model: dict[str, Any], path: Path) -> str:
    if VARIANTS[model["variant"]].lite:
        raise ExportError(f"OpenMMLab has no {model['variant']}: take --format timm or safetensors")
    _require("OpenMMLab", model, "same", 1e-3)
    config = _config(model)
    return (
        f'mmpretrain.get_model("{config}", pretrained={quoted(path)}, head=dict(num_classes={len(model["classes"])}))'
    )


def _config(model: dict[str, Any]) -> str:
    """Return the name that mmpretrain knows the variant by, with the same normalisation where it has both."""
    mean = tuple(model["preprocessing"]["mean"])
    known = [row for row in WEIGHTS.values() if (row.variant, row.layout) == (model["variant"], "openmmlab")]
    alike = [row for row in known if row.preprocessing.mean == mean]
    return (alike or known)[0].file.rpartition("_")[0]


def _require(library: str, model: dict[str, Any], padding: str, norm_eps: float) -> None:
    """Refuse what the other library would load without a word and compute otherwise."""
    if (model["padding"], model["norm_eps"]) != (padding, norm_eps):
        raise ExportError(
            f"{library}'s {model['variant']} has {padding} padding and batch-norm epsilon {norm_eps:g}, this model "
            f"{model['padding']} and {model['norm_eps']:g}: its numbers would change; take --format timm or safetensors"
        )


_IN_TORCHVISION = {**dict.fromkeys(("b0", "b1", "b2", "b3", "b4"), 1e-5), **dict.fromkeys(("b5", "b6", "b7"), 1e-3)}
"""The batch norms' epsilon in each of torchvision's models."""

LIBRARIES: dict[str, Callable[[dict[str, Any], Path], str]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "openmmlab": _openmmlab,
}
"""For each library, what checks that it can hold the model and returns the code that loads the file."""
