"""The LightningModule: one class for all phases, around the same model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import v2

from effnet_ft.data.sampling import DistributedBatchSampler
from effnet_ft.distributed import collectives
from effnet_ft.evaluation.metrics import MeanAveragePrecision
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.losses import classification_loss
from effnet_ft.optim.optimizers import build_optimizer
from effnet_ft.optim.schedules import schedule_factor
from effnet_ft.optim.settings import BatchMixing, Optimization
from effnet_ft.runs.run_folder import upgrade_checkpoint


class FineTuner(pl.LightningModule):
    """Trains the parameters that :meth:`Classifier.freeze` left trainable.

    Args:
        model: the network, frozen as the phase needs it.
        optim: how it is optimised; its ``lr`` may only be None while it is being searched.
        mixing: how the images of a batch are blended.
        phase: index of the phase, for the checkpoint.
        class_weights: weight of each class in the loss, ``[K]``; None for equal weights.
        seed: of dropout and stochastic depth, with epoch, step and rank.
        stored: whether batches hold stored activations instead of images.
        compiled: whether to compile the network for training batches of the full size.

    Attributes:
        score: ``map`` (mean average precision) for multi-label models, otherwise ``acc1``.
        recent: loss and accuracy of the latest batch, or the latest validation's ``map``, for the progress bar; on the
            device, detached.
    """

    def __init__(
        self,
        model: Classifier,
        optim: Optimization,
        mixing: BatchMixing | None = None,
        *,
        phase: int = 0,
        class_weights: Tensor | None = None,
        seed: Sequence[int] = (0,),
        stored: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.optim = optim
        self.phase = phase
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        classes = len(model.classes)
        self._mix = _batch_mixing(mixing or BatchMixing(), classes)
        self.seed = tuple(seed)
        self.stored = stored
        self._network = model.suffix if stored else model.forward
        self._compiled = torch.compile(self._network, dynamic=False) if compiled else self._network
        self._full_batch = 0
        self.score = "map" if model.multilabel else "acc1"
        self.train_score, self.val_score = (
            MeanAveragePrecision()
            if model.multilabel
            else MulticlassAccuracy(classes, average="micro", validate_args=False)
            for _ in ("train", "val")
        )
        # MeanMetric's search for NaN waits for the device. Without it, its weights are ignored, so it gets one value
        # per image.
        self.train_loss = MeanMetric(nan_strategy="disable")
        self.val_loss = MeanMetric(nan_strategy="disable")
        self.train()  # Lightning keeps this mode; the model's frozen stages stay in evaluation mode
        self.recent: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[N, 3, H, W]``, 0..255, or stored activations of them, to logits ``[N, K]``."""
        return self._network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, whose random numbers depend on seed, epoch, step and rank alone."""
        numbers = np.random.SeedSequence([*self.seed, self.current_epoch, batch_idx, self.global_rank])
        _seed(int(numbers.generate_state(1)[0]), self.device)
        images, labels = batch
        self._full_batch = self._full_batch or len(labels)  # of the first batch; the last one may be larger by one
        network = self._compiled if len(labels) == self._full_batch else self._network
        loss, logits = self.batch_loss(images, labels, network)
        self.train_loss.update(loss.detach().expand(len(labels)))
        self.train_score.update(logits.detach(), labels)
        self.recent["loss"] = loss.detach()
        if not self.model.multilabel:
            self.recent["acc"] = (logits.detach().argmax(1) == labels).float().mean()
        weight = self._weight(len(labels), batch_idx)
        return loss if weight == 1 else loss * weight

    def batch_loss(
        self, images: Tensor, labels: Tensor, network: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the training loss of a batch, mixed, smoothed and weighted, and the logits ``[N, K]``."""
        targets = labels
        if self._mix is not None:
            images, targets = self._mix(images.float(), labels)
        logits = (network or self._network)(images)
        loss = classification_loss(
            logits,
            targets,
            multilabel=self.model.multilabel,
            smoothing=self.optim.label_smoothing,
            class_weights=self.class_weights,
        )
        return loss, logits

    def _weight(self, images: int, batch_idx: int) -> float:
        """Return the weight of a batch's mean loss that makes all images of an optimiser step count alike.

        The batches of a step differ in size between ranks, and the last step of an epoch has fewer or smaller ones.
        """
        loader, accumulate = self.trainer.train_dataloader, self.trainer.accumulate_grad_batches
        samplers = (getattr(loader, name, None) for name in ("batch_sampler", "sampler"))
        batches = next((sampler for sampler in samplers if isinstance(sampler, DistributedBatchSampler)), None)
        if batches is None:
            return 1.0
        return images * collectives.world_size() * accumulate / batches.images_in_step(batch_idx, accumulate)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the validation metrics; the loss is without smoothing."""
        images, labels = batch
        logits = self(images)
        loss = classification_loss(logits, labels, multilabel=self.model.multilabel)
        self.val_loss.update(loss.expand(len(labels)))
        self.val_score.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's metrics.

        ``val/selection`` orders checkpoints by score and, the fewer the validation images, the more by loss too: one
        image more or less is luck, while the loss uses the probabilities of all images.
        """
        score, loss = self.val_score.compute(), self.val_loss.compute()
        with self.val_loss.sync_context():  # count the images of all ranks, which must select the same epoch
            share = (2 / self.val_loss.weight.sqrt()).clamp(max=0.5)
        metrics = {
            "train/loss": self.train_loss.compute(),
            f"train/{self.score}": self.train_score.compute(),
            "val/loss": loss,
            f"val/{self.score}": score,
            "val/selection": score + share * (-loss).exp(),
        }
        if self.model.multilabel:
            self.recent["val map"] = score
        self.log_dict(metrics, logger=False)  # the epoch table logs them
        for metric in (self.train_loss, self.train_score, self.val_loss, self.val_score):
            metric.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser of the trainable parameters and its schedule, which advances with every step."""
        # Lightning neither unscales nor, in mixed precision, clips the gradients of a fused optimiser.
        clipped = self.trainer.precision.endswith("-mixed") and bool(self.trainer.gradient_clip_val)
        fused = self.trainer.precision != "16-mixed" and not clipped
        optimiser = build_optimizer(self.model, self.optim, fused)
        total = int(self.trainer.estimated_stepping_batches)
        epoch_steps = total / max(1, self.trainer.max_epochs or 1)
        scheduler = LambdaLR(optimiser, lambda step: schedule_factor(self.optim, step, total, epoch_steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the model without the recipe, the phase, whether it is over, and the epoch's metrics."""
        epochs = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        checkpoint["effnet_ft"] = {
            "model": self.model.describe(),
            "phase": self.phase,
            "finished": self.trainer.should_stop or epochs >= (self.trainer.max_epochs or 0),
            "sums": [_metric_state(metric) for metric in (self.train_loss, self.train_score)],
            "full_batch": self._full_batch,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the metrics of a partial epoch; rank 0 gets those of all ranks."""
        upgrade_checkpoint(checkpoint)
        ours = checkpoint["effnet_ft"]
        self._full_batch = ours["full_batch"]
        if self.trainer.is_global_zero:
            for metric, state in zip((self.train_loss, self.train_score), ours["sums"], strict=True):
                _restore(metric, state)


def _metric_state(metric: Metric) -> dict[str, Any]:
    """Return the state of ``metric`` over all ranks."""
    if not metric.update_called:
        return {}
    with metric.sync_context():
        return dict(metric.metric_state)


def _restore(metric: Metric, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        as_list = isinstance(getattr(metric, name), list)
        value = apply_to_collection(value, Tensor, lambda tensor: tensor.to(metric.device))
        setattr(metric, name, [value] if as_list and isinstance(value, Tensor) else value)


def _seed(number: int, device: torch.device) -> None:
    """Seed the generators of a step; ``torch.manual_seed`` is slow, as it also queues seeds for unused devices."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


def _batch_mixing(mixing: BatchMixing, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Return a transform of a batch's images and labels, which become probabilities; None if nothing is mixed."""
    kinds = ((v2.MixUp, mixing.mixup), (v2.CutMix, mixing.cutmix))
    chosen = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha]
    return v2.RandomChoice(chosen) if chosen else None
