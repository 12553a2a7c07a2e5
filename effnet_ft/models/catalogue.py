"""Tables of variants and weights, for the terminal and ``docs/models.md``. Free of torch."""

from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.resolving import default_family
from effnet_ft.models.weights.table import FAMILIES, WEIGHTS
from effnet_ft.utils.tables import columns, markdown

_PAGE = """# Variants and weights

Written by `effnet-ft models --markdown`; a test keeps it so.

## Variants

Parameters with a classifier of 1,000 classes, multiply-adds of one image at the native size. `model.weights=auto` means
the family with the best published top-1.

{variants}

## Weights

`model.weights=FAMILY` with `model.variant=VARIANT`; top-1 and top-5 are the published ones, on ImageNet's validation
images. A file's name ends in the first digits of its SHA-256. `effnet-ft models --download b0/aa` gets a file ahead of
time.

{weights}

## Families

Normalisation is (value - mean) / std on 0..255, red, green, blue.

{families}
"""


def variants_text() -> str:
    """Return the variants as a table for the terminal."""
    head = ["variant", "params M", "GMACs", "size", "auto", "weights"]
    return columns([head, *([row[0], *row[2:]] for row in _variants())], right=(1, 2, 3))


def weights_text() -> str:
    """Return the weights as a table for the terminal."""
    head = ["weights", "size", "resize", "crop", "padding", "top-1", "top-5", "hash", "source"]
    rows = [
        [
            *(record.name, str(record.preprocessing.size), str(record.preprocessing.resize), record.preprocessing.crop),
            *(record.padding, _percent(record.top1), _percent(record.top5), record.digits, record.source),
        ]
        for record in WEIGHTS.values()
    ]
    return columns([head, *rows], right=(1, 2, 5, 6))


def models_page() -> str:
    """Return ``docs/models.md``."""
    families = [
        [
            *(f"`{name}`", kind.training, _triple(kind.mean), _triple(kind.std)),
            *(kind.padding, f"{kind.norm_eps:g}", kind.licence),
        ]
        for name, kind in FAMILIES.items()
    ]
    weights = []
    for record in WEIGHTS.values():
        view, link = record.preprocessing, f"[{record.file}]({record.address}/{record.file})"
        size = [record.name, str(view.size), str(view.resize), view.crop, view.interpolation, record.layout]
        file = f"package `{record.package}`" if record.package else link
        weights.append([*size, _percent(record.top1), _percent(record.top5), file])
    return _PAGE.format(
        variants=markdown(["variant", "parameters", "M", "GMACs", "size px", "auto", "weights"], _variants()),
        weights=markdown(
            ["weights", "size px", "resize px", "crop", "interpolation", "layout", "top-1 %", "top-5 %", "file"],
            weights,
        ),
        families=markdown(["family", "training", "mean", "std", "padding", "batch-norm epsilon", "licence"], families)
        + "\n\ntorchvision's b5 to b7 have the epsilon 0.001.",
    )


def _variants() -> list[list[str]]:
    rows = []
    for variant in VARIANTS.values():
        families = [record.family for record in WEIGHTS.values() if record.variant == variant.name]
        counts = (f"{variant.parameters:,}", f"{variant.parameters / 1e6:.2f}", f"{variant.gmacs:.2f}")
        weights = (default_family(variant.name), ", ".join(families) or "a file")
        rows.append([variant.name, *counts, str(variant.size), *weights])
    return rows


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _triple(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else ", ".join(f"{value:g}" for value in values)
