"""The formats that a model can be exported to, and which models timm, torchvision and OpenMMLab take. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnet_ft.errors import ExportError, UsageError
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.table import WEIGHTS

if TYPE_CHECKING:
    from effnet_ft.models.classifier import Classifier


def require_suffix(form: str, path: Path) -> None:
    """Raise a UsageError for a file name without the suffix of its format."""
    suffix = {**PROGRAMS, "safetensors": ".safetensors"}.get(form)
    if suffix and path.suffix != suffix:
        raise UsageError(f"'{path}' does not end in {suffix}, by which programs recognise the format: rename it")


def python_literal(path: Path) -> str:
    """Return ``path`` as a string literal of Python."""
    return json.dumps(str(path), ensure_ascii=False)


def loading_code(model: Classifier, form: str, path: Path) -> str:
    """Return code that loads the file, with this package or in the other library.

    For libraries the suffix ``.safetensors`` selects that container, others PyTorch's own.

    Raises:
        ExportError: if the library has no such model or computes differently.
        UsageError: if the library does not read the container.
    """
    if form not in LIBRARIES:
        return f"effnet_ft.load({python_literal(path)})"
    description = model.describe()
    usage = LIBRARIES[form](description, path)
    if form == "openmmlab" and path.suffix == ".safetensors":
        raise UsageError(f"'{path}': OpenMMLab does not read safetensors; use the suffix .pth")
    if description["head"] != "linear":
        raise ExportError(
            f"the model's head is '{description['head']}', {form} has only a linear one: use --format safetensors"
        )
    if model.multilabel:
        if form == "openmmlab":
            raise ExportError("the model is multi-label, OpenMMLab's head is not: use --format timm or safetensors")
        thresholds = ", ".join(f"{threshold:.4g}" for threshold in model.thresholds)
        usage += (
            f"\n# apply the sigmoid, not the softmax; predict labels with at least these probabilities: {thresholds}"
        )
    return usage


def _torchvision(model: dict[str, Any], path: Path) -> str:
    variant = model["variant"]
    if variant not in _TORCHVISION_NORM_EPS:
        raise ExportError(f"torchvision has no {variant}: use --format timm or safetensors")
    _require_same_layers("torchvision", model, "symmetric", _TORCHVISION_NORM_EPS[variant])
    build = f"model = torchvision.models.efficientnet_{variant}(num_classes={len(model['classes'])})"
    read = "safetensors.torch.load_file" if path.suffix == ".safetensors" else "torch.load"
    return f"{build}\nmodel.load_state_dict({read}({python_literal(path)}))"


def _timm(model: dict[str, Any], path: Path) -> str:
    same = model["padding"] == "same"
    name = f"{'tf_' if same else ''}efficientnet_{model['variant']}"
    eps = "" if model["norm_eps"] == (1e-3 if same else 1e-5) else f", bn_eps={model['norm_eps']:g}"
    classes = len(model["classes"])
    return f'timm.create_model("{name}", num_classes={classes}{eps}, checkpoint_path={python_literal(path)})'


def _openmmlab(model: dict[str, Any], path: Path) -> str:
    variant, mean, classes = model["variant"], tuple(model["preprocessing"]["mean"]), len(model["classes"])
    if VARIANTS[variant].lite:
        raise ExportError(f"OpenMMLab has no {variant}: use --format timm or safetensors")
    _require_same_layers("OpenMMLab", model, "same", 1e-3)
    records = [row for row in WEIGHTS.values() if (row.variant, row.layout) == (variant, "openmmlab")]
    record = max(records, key=lambda row: row.preprocessing.mean == mean)  # the same normalisation if it has both
    config = record.file.rpartition("_")[0]
    return f'mmpretrain.get_model("{config}", pretrained={python_literal(path)}, head=dict(num_classes={classes}))'


def _require_same_layers(library: str, model: dict[str, Any], padding: str, norm_eps: float) -> None:
    """Refuse a model that the other library would load without complaint and compute differently."""
    if (model["padding"], model["norm_eps"]) != (padding, norm_eps):
        raise ExportError(
            f"{library}'s {model['variant']} has {padding} padding and batch-norm epsilon {norm_eps:g}, this model "
            f"{model['padding']} and {model['norm_eps']:g}: its numbers would change; use --format timm or safetensors"
        )


_TORCHVISION_NORM_EPS = dict.fromkeys(("b0", "b1", "b2", "b3", "b4"), 1e-5) | dict.fromkeys(("b5", "b6", "b7"), 1e-3)

LIBRARIES: dict[str, Callable[[dict[str, Any], Path], str]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "openmmlab": _openmmlab,
}
"""For each library, a function that checks a model's description and returns code that loads the file."""

PROGRAMS = {"onnx": ".onnx", "torch-export": ".pt2"}  # formats of exported programs, with their file suffixes
FORMATS = (*PROGRAMS, "safetensors", *LIBRARIES)  # programs; our own weights; weights for other libraries
