"""Maps parameter names between libraries that publish EfficientNets.

Ours (``effnet_ft``) are torchvision's with ``stages`` for ``features`` and ``head`` for ``classifier``. timm's ``tf_``
models have the names of its others. lukemelas (``EfficientNet-PyTorch``) numbers all blocks of the network; OpenMMLab
(mmpretrain) has two stages each in layers 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from effnet_ft.errors import WeightsError
from effnet_ft.models.variants import STAGES, VARIANTS, Variant
from effnet_ft.utils.text import listing

if TYPE_CHECKING:
    from torch import Tensor

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Layer:
    """A layer with parameters."""

    stage: int  # 0 to 8; 9 is the classifier
    block: int  # index within the stage
    flat: int  # index of the block within the network
    role: str  # expand, depthwise, reduce and restore (squeeze-and-excitation), project, conv (stem, head), classifier
    norm: bool  # whether it is the batch norm after that convolution
    position: int  # index in torchvision's block
    expanded: bool  # whether its block has an expansion; stage 1's have none
    paired: int  # index of its block in OpenMMLab's layer, which joins stages 4 and 5, and 6 and 7
    channels: int  # of its output; 0 for the classifier

    def parameters(self) -> tuple[str, ...]:
        """Return the names of its tensors."""
        if self.norm:
            return _NORM
        return ("weight", "bias") if self.role in ("reduce", "restore", "classifier") else ("weight",)


def layers(variant: Variant) -> Iterator[Layer]:
    """Yield every layer of ``variant`` with parameters, a linear classifier included."""
    yield from _stem_or_head(0, variant.stem_channels)
    flat = before = 0
    for stage, plan in enumerate(variant.stages(), start=1):
        for block in range(plan.blocks):
            entering = plan.input_channels if block == 0 else plan.output_channels
            widths = {
                "expand": entering * plan.expand_ratio,
                "depthwise": entering * plan.expand_ratio,
                "reduce": max(1, entering // 4),
                "restore": entering * plan.expand_ratio,
                "project": plan.output_channels,
            }
            roles = ["depthwise", "project"] if variant.lite else ["depthwise", "reduce", "restore", "project"]
            expanded = plan.expand_ratio != 1
            paired = block + (before if stage in (5, 7) else 0)
            for role in ["expand", *roles] if expanded else roles:
                position = {"expand": 0, "depthwise": 0, "reduce": 1, "restore": 1, "project": 2}[role]
                position += expanded and role != "expand"
                for norm in (False,) if role in ("reduce", "restore") else (False, True):
                    yield Layer(stage, block, flat, role, norm, position, expanded, paired, widths[role])
            flat += 1
        before = plan.blocks
    yield from _stem_or_head(8, variant.features)
    yield Layer(STAGES, 0, 0, "classifier", False, 1, False, 0, 0)


def _stem_or_head(stage: int, channels: int) -> Iterator[Layer]:
    """Yield a convolution and its batch norm."""
    for norm in (False, True):
        yield Layer(stage, 0, 0, "conv", norm, 0, False, 0, channels)


def _torchvision(layer: Layer) -> str:
    if layer.role == "classifier":
        return "classifier.1"
    if layer.role == "conv":
        return f"features.{layer.stage}.{int(layer.norm)}"
    part = {"reduce": "fc1", "restore": "fc2"}.get(layer.role, str(int(layer.norm)))
    return f"features.{layer.stage}.{layer.block}.block.{layer.position}.{part}"


def _ours(layer: Layer) -> str:
    name = _torchvision(layer)
    return name.replace("features", "stages").replace("classifier", "head")


def _timm(layer: Layer) -> str:
    if layer.role == "classifier":
        return "classifier"
    if layer.role == "conv":
        stem, head = ("bn1", "bn2") if layer.norm else ("conv_stem", "conv_head")
        return stem if layer.stage == 0 else head
    separable = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
    inverted = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
    squeeze = {"reduce": ("se.conv_reduce", ""), "restore": ("se.conv_expand", "")}
    names = {**squeeze, **(inverted if layer.expanded else separable)}
    return f"blocks.{layer.stage - 1}.{layer.block}.{names[layer.role][layer.norm]}"


def _lukemelas(layer: Layer) -> str:
    if layer.role == "classifier":
        return "_fc"
    if layer.role == "conv":
        stem, head = ("_bn0", "_bn1") if layer.norm else ("_conv_stem", "_conv_head")
        return stem if layer.stage == 0 else head
    names = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "reduce": ("_se_reduce", ""),
        "restore": ("_se_expand", ""),
        "project": ("_project_conv", "_bn2"),
    }
    return f"_blocks.{layer.flat}.{names[layer.role][layer.norm]}"


def _openmmlab(layer: Layer) -> str:
    if layer.role == "classifier":
        return "head.fc"
    number = {5: 4, 6: 5, 7: 5, 8: 6}.get(layer.stage, layer.stage)
    part = "bn" if layer.norm else "conv"
    if layer.role == "conv":
        return f"backbone.layers.{number}.{part}"
    names = {
        "expand": "expand_conv",
        "depthwise": "depthwise_conv",
        "reduce": "se.conv1",
        "restore": "se.conv2",
        "project": "linear_conv",
    }
    return f"backbone.layers.{number}.{layer.paired}.{names[layer.role]}.{part}"


LAYOUTS: dict[str, Callable[[Layer], str]] = {
    "openmmlab": _openmmlab,
    "timm": _timm,
    "torchvision": _torchvision,
    "lukemelas": _lukemelas,
    "effnet_ft": _ours,
}


@lru_cache
def keys(variant: Variant, layout: str) -> dict[str, str]:
    """Return our key for every key of ``layout``, for ``variant`` with a linear classifier."""
    name = LAYOUTS[layout]
    return {
        f"{name(layer)}.{parameter}": f"{_ours(layer)}.{parameter}"
        for layer in layers(variant)
        for parameter in layer.parameters()
    }


def detect_layout(state: Mapping[str, Tensor]) -> tuple[str, str]:
    """Return the layout and the variant of a state dict, by its keys and the widths of its convolutions.

    The variant is empty if none fits: keys were renamed or are missing, or widths differ.

    Raises:
        WeightsError: if the keys are not an EfficientNet's.
    """
    smallest = {layout: keys(VARIANTS["lite0"], layout).keys() for layout in LAYOUTS}  # part of all others' keys
    layout = max(LAYOUTS, key=lambda name: len(smallest[name] & state.keys()))
    if len(smallest[layout] & state.keys()) < len(smallest[layout]) / 2:
        raise WeightsError(
            f"its {len(state)} tensors are not named as an EfficientNet's in any known layout "
            f"({', '.join(LAYOUTS)}); they begin:\n{listing(list(state), 5)}"
        )
    fits = (name for name, variant in VARIANTS.items() if _fits(state, variant, layout))
    return layout, next(fits, "")


def _fits(state: Mapping[str, Tensor], variant: Variant, layout: str) -> bool:
    name = LAYOUTS[layout]
    for layer in layers(variant):
        key = f"{name(layer)}.weight"
        if layer.channels and (key not in state or state[key].shape[:1] != (layer.channels,)):
            return False
    known = keys(variant, layout).keys() | _head_keys(state, layout)
    return required_keys(variant, layout) <= state.keys() <= known


def _head_keys(state: Mapping[str, Tensor], layout: str) -> set[str]:
    """Return the keys of our own head, which may not be linear."""
    return {key for key in state if key.startswith("head.")} if layout == "effnet_ft" else set()


@lru_cache
def required_keys(variant: Variant, layout: str) -> set[str]:
    """Return the keys that a file of ``variant`` must hold: all but the classifier's and ``num_batches_tracked``.

    OpenMMLab's files, and those written before PyTorch 0.4.1, lack the latter.
    """
    return {
        theirs
        for theirs, ours in keys(variant, layout).items()
        if not ours.startswith("head.") and not ours.endswith("num_batches_tracked")
    }


def to_our_keys(state: Mapping[str, Tensor], variant: Variant, layout: str) -> dict[str, Tensor]:
    """Return ``state`` with our keys; classifier and ``num_batches_tracked`` may be missing.

    Raises:
        WeightsError: listing missing and unknown keys.
    """
    known = keys(variant, layout)
    missing = sorted(required_keys(variant, layout) - state.keys())
    heads = _head_keys(state, layout)
    extra = [key for key in state if key not in known and key not in heads]
    if missing or extra:
        text = f"the file does not hold {variant.name} in {layout} layout"
        text += f"\n{len(missing)} keys are missing:\n{listing(missing, 5)}" if missing else ""
        text += f"\n{len(extra)} keys are not known:\n{listing(extra, 5)}" if extra else ""
        raise WeightsError(text)
    ours = {own: state[theirs] for theirs, own in known.items() if theirs in state}
    return {**ours, **{key: value for key, value in state.items() if key in heads}}


def from_our_keys(state: Mapping[str, Tensor], variant: Variant, layout: str) -> dict[str, Tensor]:
    """Return our ``state`` with the keys of ``layout``; the inverse of :func:`to_our_keys`."""
    return {theirs: state[ours] for theirs, ours in keys(variant, layout).items() if ours in state}
