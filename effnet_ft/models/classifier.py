"""The classifier: images in, logits out, cut at a stage into a frozen prefix and a trained suffix."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from effnet_ft.errors import WeightsError
from effnet_ft.models.activation_checkpointing import checkpointed
from effnet_ft.models.efficientnet import build_stages
from effnet_ft.models.heads import HEADS
from effnet_ft.models.skip_init import load_state, skip_init
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.models.weights.resolving import scratch_preprocessing
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.utils.text import counted, listing


class Classifier(nn.Module):
    """An EfficientNet with its preprocessing and its head.

    Maps images ``[N, 3, H, W]``, RGB, uint8 or float, 0..255, to logits ``[N, K]``, float32. It normalises images
    itself; resizing and cropping are on :attr:`preprocessing`.

    Args:
        classes: class names, in the order of the logits.
        head: a name in :data:`effnet_ft.models.heads.HEADS`.
        dropout: rate before the classifier; None means the variant's.
        drop_path: stochastic depth of the last block; earlier blocks have proportionally less.
        padding: ``same`` or ``symmetric``.
        preprocessing: that the weights were trained with; None means that of random weights.
        task: ``single`` for a softmax over classes, ``multi`` for a sigmoid for each label.
        thresholds: with ``multi``, the probability from which each label is predicted; None means 0.5.
        temperature: divides the logits before softmax or sigmoid; fitted after training.
        record: precision and coverage on images not trained on, see
            :data:`effnet_ft.inference.selective_prediction.ConfidenceRecord`; None if unknown.
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
        task: str = "single",
        thresholds: Sequence[float] | None = None,
        temperature: float = 1.0,
        record: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.variant = VARIANTS[variant]
        self.classes = tuple(classes)
        self.task = task
        self.thresholds = (0.5,) * len(self.classes) if thresholds is None else tuple(thresholds)
        self.temperature = temperature
        self.record = record
        self.preprocessing = preprocessing or scratch_preprocessing(variant)
        self.cut = 0
        self.batchnorm = "train"
        self.checkpointing = False
        self._spec = {"head": head, "padding": padding, "norm_eps": norm_eps}
        self.stages = build_stages(self.variant, drop_path=drop_path, padding=padding, norm_eps=norm_eps)
        self._init_head(head, dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[N, 3, H, W]``, 0..255, to logits ``[N, K]``."""
        return self.suffix(self.prefix(images))

    def prefix(self, images: Tensor) -> Tensor:
        """Return the activations that enter stage ``cut`` (pooled features for 9); frozen stages are in eval mode."""
        self._set_frozen_to_eval()
        if self.cut == 0:
            return self._normalised(images)
        with torch.no_grad():
            return next(x for _, x in self.at_cuts(images, [self.cut]))

    def at_cuts(self, images: Tensor, cuts: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield the activations that enter each of ``cuts``, ascending 1 to 9; modes and gradients do not change."""
        x = self._normalised(images)
        for number, stage in enumerate(islice(self.stages, max(cuts)), start=1):
            x = stage(x)
            if number in cuts:
                yield number, _pool(x) if number == STAGES else x

    def maps(self, images: Tensor) -> Tensor:
        """Return the output of stage 8, ``[N, F, h, w]``; modes and gradients do not change."""
        return self.stages(self._normalised(images))

    def _normalised(self, images: Tensor) -> Tensor:
        images = images.to(memory_format=torch.channels_last)
        return (images.to(self.mean.dtype) - self.mean) / self.std

    def suffix(self, x: Tensor) -> Tensor:
        """Map the output of :meth:`prefix`, or a 16-bit copy of it, to logits ``[N, K]``, float32."""
        x = x.to(self.mean.dtype)
        for stage in islice(self.stages, self.cut, None):
            x = checkpointed(stage, x) if self.checkpointing and torch.is_grad_enabled() else stage(x)
        features = x if self.cut == STAGES else _pool(x)
        return self.head(features).float()

    def freeze(self, cut: int, batchnorm: str = "train") -> None:
        """Train stages ``cut`` to 8 and the head; freeze parameters and statistics of the stages before.

        A ``batchnorm`` of ``frozen`` freezes the batch norms of the trained stages too.
        """
        self.cut, self.batchnorm = cut, batchnorm
        self.requires_grad_(True)
        self.stages[:cut].requires_grad_(False)
        if batchnorm == "frozen":
            for norm in self._trained_norms():
                norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but keep frozen stages and batch norms in evaluation mode."""
        super().train(mode)
        self._set_frozen_to_eval()
        return self

    def set_rates(self, dropout: float, drop_path: float) -> None:
        """Set the head's dropout rate and the stochastic depth of the last block."""
        for layer in self.head.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = dropout
        depths = [module for module in self.stages.modules() if isinstance(module, StochasticDepth)]
        for number, depth in enumerate(depths):
            depth.p = drop_path * number / len(depths)

    @property
    def multilabel(self) -> bool:
        """Whether an image has any number of labels, not one class."""
        return self.task == "multi"

    def probabilities(self, logits: Tensor, calibrated: bool = True) -> Tensor:
        """Return probabilities ``[N, K]``: softmax, or sigmoid if multi-label; ``calibrated`` by the temperature."""
        scaled = logits / self.temperature if calibrated else logits
        return scaled.sigmoid() if self.multilabel else scaled.softmax(1)

    def set_norm_momentum(self, momentum: float) -> None:
        """Set the weight of a new batch in the running statistics of all batch norms, in PyTorch's convention."""
        for module in self.stages.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def describe(self) -> dict[str, Any]:
        """Return plain values from which, with the state dict, :meth:`rebuild` makes the model again."""
        return {
            **{"variant": self.variant.name, "classes": list(self.classes)},
            **{"preprocessing": self.preprocessing.to_dict(), **self._spec, "task": self.task},
            **({"thresholds": list(self.thresholds)} if self.multilabel else {}),
            "temperature": self.temperature,
            **({"record": dict(self.record)} if self.record is not None else {}),
        }

    @classmethod
    def rebuild(cls, description: dict[str, Any], state: dict[str, Tensor]) -> Self:
        """Return the model of a :meth:`describe` and its state dict, in evaluation mode."""
        settings = {**description, "preprocessing": Preprocessing.from_dict(description["preprocessing"])}
        model = cls.empty(settings.pop("variant"), **settings)
        if wrong := sorted(model.state_dict().keys() ^ state.keys()):
            raise WeightsError(f"{counted(len(wrong), 'missing or unknown key')}:\n{listing(wrong, 5)}")
        load_state(model, state)
        return model.eval()

    @classmethod
    def empty(cls, variant: str, **settings: Any) -> Self:
        """Return a model with an initialised head; its stages are not, as that takes longer than reading weights."""
        with skip_init():
            model = cls(variant, **settings)
        model.head = nn.Sequential()
        model.to_empty(device="cpu")
        model._init_head(settings.get("head", "linear"), settings.get("dropout"))
        return model

    def _init_head(self, head: str, dropout: float | None) -> None:
        rate = self.variant.dropout if dropout is None else dropout
        self.head = HEADS[head](self.variant.features, len(self.classes), rate)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(self.preprocessing, name)).reshape(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def _trained_norms(self) -> Iterator[nn.Module]:
        trained = (stage.modules() for stage in islice(self.stages, self.cut, None))
        return (module for modules in trained for module in modules if isinstance(module, nn.BatchNorm2d))

    def _set_frozen_to_eval(self) -> None:
        for stage in islice(self.stages, self.cut):
            stage.eval()
        if self.batchnorm == "frozen":
            for norm in self._trained_norms():
                norm.eval()


def _pool(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))
