"""How the projects that publish EfficientNets name the same parameters, and the way from their names to ours.

Ours is torchvision's with ``stages`` for ``features`` and ``head`` for ``classifier``; a stage's blocks keep their
layers by position. timm's names are those of its ``tf_efficientnet_*`` models; lukemelas' those of
``EfficientNet-PyTorch``, which number all blocks of the network in one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effnet_ft.errors import WeightsError, listing
from effnet_ft.models.variants import Variant

if TYPE_CHECKING:
    from torch import Tensor

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Layer:
    """A layer with parameters: where it stands and what it is.

    Attributes:
        stage: 0 to 8; 9 is the classifier.
        block: within the stage, from 0.
        flat: within the network, all stages counted, from 0.
        role: ``expand``, ``depthwise``, ``reduce``, ``restore`` (the two of squeeze-and-excitation), ``project``,
            ``conv`` for stem and head convolution, or ``classifier``.
        norm: it is the batch norm behind that convolution.
        position: of its part in torchvision's block.
        expanded: its block has an expansion; stage 1's have none.
    """

    stage: int
    block: int
    flat: int
    role: str
    norm: bool
    position: int
    expanded: bool

    def parameters(self) -> tuple[str, ...]:
        """Return the names below the layer."""
        if self.norm:
            return _NORM
        return ("weight", "bias") if self.role in ("reduce", "restore", "classifier") else ("weight",)


def layers(variant: Variant) -> Iterator[Layer]:
    """Yield every layer of ``variant`` that has parameters, with a linear classifier."""

    def conv_and_norm(stage: int, block: int, flat: int, role: str, position: int, expanded: bool) -> Iterator[Layer]:
        yield Layer(stage, block, flat, role, False, position, expanded)
        yield Layer(stage, block, flat, role, True, position, expanded)

    yield from conv_and_norm(0, 0, 0, "conv", 0, False)
    flat = 0
    for stage, plan in enumerate(variant.stages(), start=1):
        expanded = plan.expand_ratio != 1
        for block in range(plan.blocks):
            if expanded:
                yield from conv_and_norm(stage, block, flat, "expand", 0, True)
            yield from conv_and_norm(stage, block, flat, "depthwise", int(expanded), expanded)
            if not variant.lite:
                for role in ("reduce", "restore"):
                    yield Layer(stage, block, flat, role, False, 1 + expanded, expanded)
            yield from conv_and_norm(stage, block, flat, "project", 2 + expanded, expanded)
            flat += 1
    yield from conv_and_norm(8, 0, 0, "conv", 0, False)
    yield Layer(9, 0, 0, "classifier", False, 1, False)


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


LAYOUTS: dict[str, Callable[[Layer], str]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "lukemelas": _lukemelas,
}


def keys(variant: Variant, layout: str) -> dict[str, str]:
    """Return our key for every key of ``layout``, for ``variant`` with a linear classifier."""
    name = LAYOUTS[layout]
    return {
        f"{name(layer)}.{parameter}": f"{_ours(layer)}.{parameter}"
        for layer in layers(variant)
        for parameter in layer.parameters()
    }


def from_layout(state: dict[str, Tensor], variant: Variant, layout: str) -> dict[str, Tensor]:
    """Return ``state`` with our keys. Files written before PyTorch 0.4.1 have no ``num_batches_tracked``: it may lack.

    Raises:
        WeightsError: where a key is missing or left over, with the keys.
    """
    known = keys(variant, layout)
    missing = [key for key in known if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in known]
    if missing or extra:
        text = f"the file does not hold {variant.name} in {layout} layout"
        text += f"\n{len(missing)} keys are missing:\n{listing(missing, 5)}" if missing else ""
        text += f"\n{len(extra)} keys are not known:\n{listing(extra, 5)}" if extra else ""
        raise WeightsError(text)
    return {ours: state[theirs] for theirs, ours in known.items() if theirs in state}


def to_layout(state: dict[str, Tensor], variant: Variant, layout: str) -> dict[str, Tensor]:
    """Return our ``state`` with the keys of ``layout``; the inverse of :func:`from_layout`."""
    return {theirs: state[ours] for theirs, ours in keys(variant, layout).items() if ours in state}
