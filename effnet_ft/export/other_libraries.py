"""Weights for timm, torchvision and OpenMMLab. The files also hold the model's description, to be loaded here again."""

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


def python_literal(path: Path) -> str:
    """Return ``path`` as a string literal of Python."""
    return json.dumps(str(path), ensure_ascii=False)


def loading_code(model: Classifier, library: str, path: Path) -> str:
    """Return code that loads the file in the other library.

    The suffix ``.safetensors`` selects that container, others PyTorch's own.

    Raises:
        ExportError: if the library has no such model or computes differently.
        UsageError: if the library does not read the container.
    """
    description = model.describe()
    usage = LIBRARIES[library](description, path)
    if library == "openmmlab" and path.suffix == ".safetensors":
        raise UsageError(f"'{path}': OpenMMLab does not read safetensors; use the suffix .pth")
    if description["head"] != "linear":
        raise ExportError(
            f"the model's head is '{description['head']}', {library} has only a linear one: use --format safetensors"
        )
    if library == "openmmlab" and model.multilabel:
        raise ExportError("the model is multi-label, OpenMMLab's head is not: use --format timm or safetensors")
    if model.multilabel:
        thresholds = ", ".join(f"{threshold:.4g}" for threshold in model.thresholds)
        usage += (
            f"\n# apply the sigmoid, not the softmax; predict labels with at least these probabilities: {thresholds}"
        )
    return usage


def write_library_weights(model: Classifier, library: str, path: Path) -> None:
    """Write the model's weights under another library's names.

    Raises:
        OSError, RuntimeError: if the file cannot be written.
    """
    import torch

    description = model.describe()
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    state = from_our_keys(state, model.variant, library)
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        # Not save_file, whose files only their owner may read.
        path.write_bytes(save(state, {DESCRIPTION: json.dumps(description), "format": "pt"}))
    elif library == "openmmlab":
        names = {"classes": description["classes"]}
        torch.save({"state_dict": state, "meta": {"dataset_meta": names, DESCRIPTION: description}}, path)
    else:
        with_attribute = OrderedDict(state)  # attributes are saved too, and readers of state dicts ignore them
        setattr(with_attribute, DESCRIPTION, description)
        torch.save(with_attribute, path)


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
    if VARIANTS[model["variant"]].lite:
        raise ExportError(f"OpenMMLab has no {model['variant']}: use --format timm or safetensors")
    _require_same_layers("OpenMMLab", model, "same", 1e-3)
    config, classes = _mmpretrain_name(model), len(model["classes"])
    return f'mmpretrain.get_model("{config}", pretrained={python_literal(path)}, head=dict(num_classes={classes}))'


def _mmpretrain_name(model: dict[str, Any]) -> str:
    """Return mmpretrain's name of the variant, with the same normalisation if it has both."""
    mean = tuple(model["preprocessing"]["mean"])
    records = [row for row in WEIGHTS.values() if (row.variant, row.layout) == (model["variant"], "openmmlab")]
    same_mean = [row for row in records if row.preprocessing.mean == mean]
    return (same_mean or records)[0].file.rpartition("_")[0]


def _require_same_layers(library: str, model: dict[str, Any], padding: str, norm_eps: float) -> None:
    """Refuse a model that the other library would load without complaint and compute differently."""
    if (model["padding"], model["norm_eps"]) != (padding, norm_eps):
        raise ExportError(
            f"{library}'s {model['variant']} has {padding} padding and batch-norm epsilon {norm_eps:g}, this model "
            f"{model['padding']} and {model['norm_eps']:g}: its numbers would change; use --format timm or safetensors"
        )


_TORCHVISION_NORM_EPS = {
    **dict.fromkeys(("b0", "b1", "b2", "b3", "b4"), 1e-5),
    **dict.fromkeys(("b5", "b6", "b7"), 1e-3),
}
"""Batch-norm epsilon of torchvision's models."""

LIBRARIES: dict[str, Callable[[dict[str, Any], Path], str]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "openmmlab": _openmmlab,
}
"""For each library, a function that checks a model's description and returns code that loads the file."""
