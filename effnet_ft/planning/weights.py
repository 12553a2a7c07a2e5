"""Which weights, and with them the size and the crop of the images."""

from __future__ import annotations

from dataclasses import dataclass

from effnet_ft.models.weights.resolving import default_family, resolve_weights, scratch_preprocessing
from effnet_ft.models.weights.table import FAMILIES
from effnet_ft.recipe.plan import ModelPlan
from effnet_ft.recipe.schema import DataSettings, ModelSettings


@dataclass(frozen=True)
class WeightsChoice:
    """Weights and the preprocessing that follows from them.

    Attributes:
        model: the network with its weights named.
        image_size: side of the network's input, pixels.
        crop: how images are cropped for evaluation.
        reasons: of what was ``auto``, by dotted keys.
    """

    model: ModelPlan
    image_size: int
    crop: str
    reasons: dict[str, str]


def choose_weights(model: ModelSettings, data: DataSettings) -> WeightsChoice:
    """Decide ``model.weights``, ``model.family``, ``data.image_size`` and ``data.crop``.

    Raises:
        WeightsError: where there are no such weights.
    """
    reasons: dict[str, str] = {}
    weights, family = model.weights, model.family
    size, crop = data.image_size, data.crop
    if weights == "auto":
        weights = default_family(model.variant)
        known = "no weights are known for this variant" if weights == "none" else "the best published top-1"
        reasons["model.weights"] = known
    # What needs no decision may name a file that is gone: a finished run's.
    if "auto" in (size, crop) or weights in FAMILIES:
        record = resolve_weights(model.variant, weights, family)
        view = record.preprocessing if record else scratch_preprocessing(model.variant)
        if record and record.family in FAMILIES:
            family = record.family
        source = "the weights were trained for it" if record else f"{model.variant}'s own size"
        if size == "auto":
            size, reasons["data.image_size"] = view.size, source
        if crop == "auto":
            crop, reasons["data.crop"] = view.crop, "as the weights' authors evaluate"
    assert not isinstance(size, str)
    return WeightsChoice(ModelPlan(model.variant, weights, family, model.head), size, crop, reasons)
