"""Which weights, and with them the size and the crop of the images."""

from dataclasses import dataclass

from effnet_ft.models.weights.resolving import default_family, resolve_weights, scratch_preprocessing
from effnet_ft.models.weights.table import FAMILIES
from effnet_ft.recipe.plan import ModelPlan
from effnet_ft.recipe.schema import DataSettings, ModelSettings


@dataclass(frozen=True)
class WeightsChoice:
    """Weights and the preprocessing that follows from them."""

    model: ModelPlan
    image_size: int  # side of the network's input, pixels
    crop: str  # of images in evaluation
    reasons: dict[str, str]  # of what was `auto`, by dotted keys


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
        unknown = weights == "none"
        reasons["model.weights"] = "no weights are known for this variant" if unknown else "the best published top-1"
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
