"""The network as everything else sees it: images in, logits out, cut at a stage into a frozen prefix and a suffix."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from effnet_ft.errors import WeightsError, nearest
from effnet_ft.models import layouts
from effnet_ft.models.efficientnet import build_stages
from effnet_ft.models.heads import HEADS
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.models.weights import load_state, preprocessing_of, record_of
from effnet_ft.preprocessing import Preprocessing

log = logging.getLogger(__name__)


class Classifier(nn.Module):
    """An EfficientNet with its preprocessing and its head.

    Its forward maps images ``[N, 3, H, W]``, RGB, uint8 or float, 0..255, to logits ``[N, K]``, float32. Normalisation
    is inside; resizing and cropping are on :attr:`preprocessing`.

    Args:
        variant: ``b0``-``b8`` or ``lite0``-``lite4``.
        classes: names of the classes, in the order of the logits.
        head: a name in :data:`effnet_ft.models.heads.HEADS`.
        dropout: rate before the classifier; None takes the variant's.
        drop_path: stochastic depth of the last block; earlier blocks have proportionally less.
        padding: ``same`` or ``symmetric``.
        norm_eps: epsilon of the batch norms.
        preprocessing: what the weights expect; None takes that of training from scratch.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        variant: str,
        *,
        classes: Sequence[str],
        head: str = "linear",
        dropout: float | None = None,
        drop_path: float = 0.2,
        padding: str = "same",
        norm_eps: float = 1e-3,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        self.variant = VARIANTS[variant]
        self.classes = tuple(classes)
        self.preprocessing = preprocessing or preprocessing_of(variant, "none")
        self.cut = 0
        self.batchnorm = "train"
        self._spec = {"head": head, "padding": padding, "norm_eps": norm_eps}
        self.stages = build_stages(self.variant, drop_path=drop_path, padding=padding, norm_eps=norm_eps)
        rate = self.variant.dropout if dropout is None else dropout
        self.head = HEADS[head](self.variant.features, len(self.classes), rate)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(self.preprocessing, name)).reshape(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[N, 3, H, W]``, 0..255, to logits ``[N, K]``."""
        return self.suffix(self.prefix(images))

    def prefix(self, images: Tensor) -> Tensor:
        """Return what the frozen stages make of ``images``: the map that enters stage ``cut``, or the pooled features.

        Whatever mode the layers were put in, the frozen ones run in evaluation mode: their statistics cannot move.
        """
        self._hold_frozen()
        with torch.no_grad():
            images = images.to(memory_format=torch.channels_last)
            x = (images.to(self.mean.dtype) - self.mean) / self.std
            for stage in islice(self.stages, self.cut):
                x = stage(x)
            return _pool(x) if self.cut == STAGES else x

    def suffix(self, x: Tensor) -> Tensor:
        """Map what :meth:`prefix` returned to logits ``[N, K]``, float32."""
        for stage in islice(self.stages, self.cut, None):
            x = stage(x)
        features = x if self.cut == STAGES else _pool(x)
        return self.head(features).float()

    def freeze(self, cut: int, batchnorm: str = "train") -> None:
        """Train stages ``cut`` to 8 and the head; freeze the stages before, parameters and statistics alike.

        Args:
            cut: first trained stage; 9 trains the head alone.
            batchnorm: ``train``, or ``frozen`` to hold the batch norms of the trained stages as well.
        """
        self.cut, self.batchnorm = cut, batchnorm
        self.requires_grad_(True)
        self.stages[:cut].requires_grad_(False)
        if batchnorm == "frozen":
            for norm in self._norms():
                norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode as PyTorch does, then put what is frozen back into evaluation mode."""
        super().train(mode)
        self._hold_frozen()
        return self

    def set_rates(self, dropout: float, drop_path: float) -> None:
        """Set the head's dropout rate and the stochastic depth of the last block."""
        for module in self.head.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        depths = [module for module in self.stages.modules() if isinstance(module, StochasticDepth)]
        for number, module in enumerate(depths):
            module.p = drop_path * number / len(depths)

    def describe(self) -> dict[str, Any]:
        """Return plain values from which :meth:`rebuild` makes a model of the same shape; the state dict is apart."""
        return {
            "variant": self.variant.name,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            **self._spec,
        }

    @classmethod
    def rebuild(cls, description: dict[str, Any], state: dict[str, Tensor]) -> Classifier:
        """Return the model of a :meth:`describe` and its state dict, in evaluation mode."""
        settings = {**description, "preprocessing": Preprocessing.from_dict(description["preprocessing"])}
        model = cls(settings.pop("variant"), **settings)
        model.load_state_dict(state)
        return model.eval()

    def _norms(self) -> Iterator[nn.Module]:
        trained = (stage.modules() for stage in islice(self.stages, self.cut, None))
        return (module for modules in trained for module in modules if isinstance(module, nn.BatchNorm2d))

    def _hold_frozen(self) -> None:
        for stage in islice(self.stages, self.cut):
            stage.eval()
        if self.batchnorm == "frozen":
            for norm in self._norms():
                norm.eval()


def create_model(
    variant: str,
    weights: str = "auto",
    *,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    head: str = "linear",
    dropout: float | None = None,
    drop_path: float = 0.2,
) -> Classifier:
    """Build a classifier, with pretrained weights or without.

    The pretrained classifier is kept where head and classes are ImageNet's; else a new head is drawn.

    Args:
        variant: ``b0``-``b8`` or ``lite0``-``lite4``.
        weights: a family (``torchvision``, ``lite``), a published file's path, ``auto`` (the variant's first family) or
            ``none``; Python's ``None`` means ``none``.
        num_classes: how many classes, where they have no names; 1,000 are taken as ImageNet's.
        classes: their names, in the order of the logits; ImageNet's WordNet ids where nothing is given.
        head: ``linear``, ``mlp`` or ``cosine``.
        dropout: rate before the classifier; None takes the variant's.
        drop_path: stochastic depth of the last block.

    Returns:
        The model, in evaluation mode, every stage trainable.

    Raises:
        ValueError: for an unknown variant or head, or class arguments that contradict each other.
        WeightsError: where the weights cannot be had or do not fit.
    """
    for name, value, table in (("variant", variant, VARIANTS), ("head", head, HEADS)):
        if value not in table:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(table)}{nearest(value, list(table))}")
    names = _class_names(num_classes, classes)
    record = record_of(variant, weights or "none")
    model = Classifier(
        variant,
        classes=names,
        head=head,
        dropout=dropout,
        drop_path=drop_path,
        padding=record.padding if record else "same",
        norm_eps=record.norm_eps if record else 1e-3,
        preprocessing=record.preprocessing if record else None,
    )
    if record is not None:
        file = Path(weights) if Path(weights).is_file() else None
        state = layouts.from_layout(load_state(record, file), VARIANTS[variant], record.layout)
        keep_head = head == "linear" and names == imagenet_classes()
        _load(model, state, keep_head, record.name)
    return model.eval()


def imagenet_classes() -> tuple[str, ...]:
    """Return the 1,000 WordNet ids of ImageNet-1k, in the order of every published classifier."""
    return tuple(resources.files("effnet_ft.models").joinpath("imagenet_wnids.txt").read_text().split())


def _class_names(num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None:
        if num_classes not in (None, len(classes)):
            raise ValueError(f"num_classes is {num_classes}, but {len(classes)} classes are named")
        return tuple(classes)
    imagenet = imagenet_classes()
    if num_classes in (None, len(imagenet)):
        return imagenet
    if num_classes is None or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, expected at least 1")
    return tuple(str(number) for number in range(num_classes))


def _load(model: Classifier, state: dict[str, Tensor], keep_head: bool, name: str) -> None:
    """Load ``state`` into ``model``; a foreign classifier is left aside, whatever else does not fit is an error."""
    if not keep_head:
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
    own = model.state_dict()
    wrong = [
        f"{key}: {tuple(value.shape)}, the model has {tuple(own[key].shape)}"
        for key, value in state.items()
        if value.shape != own[key].shape
    ]
    if wrong:
        raise WeightsError(f"the weights {name} do not fit: {len(wrong)} shapes differ, e.g. {wrong[0]}")
    model.load_state_dict(state, strict=False)
    kept = "its classifier kept" if keep_head else f"a new head of {len(model.classes)} classes"
    log.info("weights %s: %d tensors loaded, %s", name, len(state), kept)


def _pool(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))
