"""Maps parameter names between libraries that publish EfficientNets.

Ours (``effnet_ft``) are torchvision's with ``stages`` for ``features`` and ``head`` for ``classifier``. timm's ``tf_``
models have the names of its others. lukemelas (``EfficientNet-PyTorch``) numbers all blocks of the network; OpenMMLab
(mmpretrain) has two stages each in layers 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from effnet_ft.errors import WeightsError
from effnet_ft.models.variants import VARIANTS, Variant
from effnet_ft.utils.text import counted, listing

if TYPE_CHECKING:
    from torch import Tensor

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

LAYOUTS: dict[str, dict[str, str]] = {
    "openmmlab": {
        "stem": "backbone.layers.0.conv backbone.layers.0.bn",
        "block": "backbone.layers.{joined}.{joined_block}.",
        "expand": "expand_conv.conv expand_conv.bn",
        "depthwise": "depthwise_conv.conv depthwise_conv.bn",
        "reduce": "se.conv1.conv",
        "restore": "se.conv2.conv",
        "project": "linear_conv.conv linear_conv.bn",
        "head": "backbone.layers.6.conv backbone.layers.6.bn",
        "classifier": "head.fc",
    },
    "timm": {
        "stem": "conv_stem bn1",
        "block": "blocks.{previous}.{block}.",
        "expand": "conv_pw bn1",
        "depthwise": "conv_dw bn{second}",
        "reduce": "se.conv_reduce",
        "restore": "se.conv_expand",
        "project": "{project} bn{third}",
        "head": "conv_head bn2",
        "classifier": "classifier",
    },
    "torchvision": {
        "stem": "features.0.0 features.0.1",
        "block": "features.{stage}.{block}.block.",
        "expand": "0.0 0.1",
        "depthwise": "{first}.0 {first}.1",
        "reduce": "{second}.fc1",
        "restore": "{second}.fc2",
        "project": "{third}.0 {third}.1",
        "head": "features.8.0 features.8.1",
        "classifier": "classifier.1",
    },
    "lukemelas": {
        "stem": "_conv_stem _bn0",
        "block": "_blocks.{flat}.",
        "expand": "_expand_conv _bn0",
        "depthwise": "_depthwise_conv _bn1",
        "reduce": "_se_reduce",
        "restore": "_se_expand",
        "project": "_project_conv _bn2",
        "head": "_conv_head _bn1",
        "classifier": "_fc",
    },
}
"""For each layout the name of every layer and, after a space, of its batch norm; those in a block follow the block's.

``reduce`` and ``restore`` are the squeeze-and-excitation. :func:`_layers` fills in the braces.
"""

LAYOUTS["effnet_ft"] = {
    role: name.replace("features", "stages").replace("classifier", "head")
    for role, name in LAYOUTS["torchvision"].items()
}


def _layers(variant: Variant) -> Iterator[tuple[str, int, dict[str, int | str]]]:
    """Yield each layer's role, its output channels (0 for the classifier) and the values for its name."""
    yield "stem", variant.stem_channels, {}
    flat = blocks_before = 0
    for stage, plan in enumerate(variant.stages(), start=1):
        expanded = plan.expand_ratio != 1
        for block in range(plan.blocks):
            entering = plan.input_channels if block == 0 else plan.output_channels
            inner = entering * plan.expand_ratio
            place: dict[str, int | str] = {
                **{"stage": stage, "previous": stage - 1, "block": block, "flat": flat},
                "joined": {5: 4, 6: 5, 7: 5}.get(stage, stage),
                "joined_block": block + (blocks_before if stage in (5, 7) else 0),
                # Positions in the block, one lower without an expansion.
                **{"first": int(expanded), "second": 1 + expanded, "third": 2 + expanded},
                "project": "conv_pwl" if expanded else "conv_pw",
            }
            if expanded:
                yield "expand", inner, place
            yield "depthwise", inner, place
            if not variant.lite:
                yield "reduce", max(1, entering // 4), place
                yield "restore", inner, place
            yield "project", plan.output_channels, place
            flat += 1
        blocks_before = plan.blocks
    yield "head", variant.features, {}
    yield "classifier", 0, {}


@lru_cache
def _channels(variant: Variant, layout: str) -> dict[str, int]:
    """Return the name of every tensor, and for weights the output channels; 0 for the classifier and other tensors."""
    channels = {}
    names = LAYOUTS[layout]
    for role, width, place in _layers(variant):
        layer, *norms = (((names["block"] if place else "") + name).format(**place) for name in names[role].split())
        channels[f"{layer}.weight"] = width
        if role in ("reduce", "restore", "classifier"):
            channels[f"{layer}.bias"] = 0
        for norm in norms:
            channels |= {f"{norm}.{parameter}": width if parameter == "weight" else 0 for parameter in _NORM}
    return channels


@lru_cache
def keys(variant: Variant, layout: str) -> dict[str, str]:
    """Return our key for every key of ``layout``, for ``variant`` with a linear classifier."""
    return dict(zip(_channels(variant, layout), _channels(variant, "effnet_ft"), strict=True))


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
            f"its keys are not those of an EfficientNet in any known layout "
            f"({', '.join(LAYOUTS)}); they begin:\n{listing(list(state), 5)}"
        )
    fits = (name for name, variant in VARIANTS.items() if _fits(state, variant, layout))
    return layout, next(fits, "")


def _fits(state: Mapping[str, Tensor], variant: Variant, layout: str) -> bool:
    widths = _channels(variant, layout)
    if any(width and (key not in state or state[key].shape[:1] != (width,)) for key, width in widths.items()):
        return False
    return required_keys(variant, layout) <= state.keys() <= widths.keys() | _head_keys(state, layout)


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
        text += f"\n{counted(len(missing), 'missing key')}:\n{listing(missing, 5)}" if missing else ""
        text += f"\n{counted(len(extra), 'unknown key')}:\n{listing(extra, 5)}" if extra else ""
        raise WeightsError(text)
    ours = {own: state[theirs] for theirs, own in known.items() if theirs in state}
    return {**ours, **{key: value for key, value in state.items() if key in heads}}


def from_our_keys(state: Mapping[str, Tensor], variant: Variant, layout: str) -> dict[str, Tensor]:
    """Return our ``state`` with the keys of ``layout``; the inverse of :func:`to_our_keys`."""
    return {theirs: state[ours] for theirs, ours in keys(variant, layout).items() if ours in state}
