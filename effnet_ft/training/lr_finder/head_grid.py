"""Searches a linear head's learning rate and weight decay: all settings of a grid are trained side by side.

The grid is that of Kornblith et al. 2019 (arXiv:1805.08974): seven learning rates between 0.0001 and 0.1, each with
seven weight decays between 0.000001 and 0.001 and with none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.evaluation.metrics import mean_average_precision
from effnet_ft.optim.losses import classification_loss
from effnet_ft.optim.optimizers import OPTIMIZERS
from effnet_ft.optim.schedules import schedule_factor
from effnet_ft.recipe.plan import PhasePlan

LEARNING_RATES = tuple(np.logspace(-4, -1, 7).tolist())
WEIGHT_DECAYS = (0.0, *np.logspace(-6, -3, 7).tolist())

_MOST_STEPS = 600


@dataclass(frozen=True)
class Trial:
    """A setting of the grid and what it came to on the validation images.

    Where an image has several labels, the accuracy is their mean average precision.
    """

    lr: float
    weight_decay: float
    accuracy: float
    loss: float


def search_head_grid(
    data: ActivationDataModule, features: int, classes: int, phase: PhasePlan, device: torch.device
) -> list[Trial]:
    """Train a linear head at every setting of the grid, and return what came out, the best first.

    Args:
        data: stored features of the phase.
        features: length of a feature vector.
        classes: how many.
        phase: its optimiser, schedule, smoothing, dropout, batches and epochs, of which the search may take fewer.
        device: where it is computed.
    """
    settings = [(lr, decay) for lr in LEARNING_RATES for decay in WEIGHT_DECAYS]
    generator = torch.Generator().manual_seed(phase.index)
    count = len(settings)
    drawn = torch.Generator(device).manual_seed(phase.index)
    weight = torch.empty(classes, features).normal_(std=0.01, generator=generator)  # as a new linear head is drawn
    weights = weight.to(device).repeat(count, 1, 1)
    biases = torch.zeros(count, classes, device=device)
    weight_gradients, bias_gradients = torch.zeros_like(weights), torch.zeros_like(biases)
    optimiser = OPTIMIZERS[phase.optim.optimizer](
        [
            group
            for number, (lr, decay) in enumerate(settings)
            for group in (
                {
                    "params": [_with_gradient(weights[number], weight_gradients[number])],
                    "lr": lr,
                    "weight_decay": decay,
                },
                {"params": [_with_gradient(biases[number], bias_gradients[number])], "lr": lr, "weight_decay": 0.0},
            )
        ],
        LEARNING_RATES[0],
        phase.optim.momentum,
        True,
    )
    highest = [group["lr"] for group in optimiser.param_groups]
    batches = data.train_dataloader()
    epochs = min(phase.epochs, max(1, _MOST_STEPS // len(batches)))
    total, step = epochs * len(batches), 0
    for epoch in range(epochs):
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch, labels in batches:
            x, targets = batch.to(device).float(), _smoothed(labels.to(device), classes, phase.optim.label_smoothing)
            kept = 1 - phase.dropout
            x = x * torch.empty_like(x).bernoulli_(kept, generator=drawn) / kept
            logits = (x @ weights.flatten(0, 1).T).unflatten(1, (count, classes)) + biases
            # Of several labels an image, the loss is a mean over them too.
            answers = logits.softmax(-1) if labels.ndim == 1 else logits.sigmoid() / classes
            goal = targets if labels.ndim == 1 else targets / classes
            errors = (answers - goal[:, None]) / len(x)
            weight_gradients.copy_((errors.flatten(1).T @ x).unflatten(0, (count, classes)))
            bias_gradients.copy_(errors.sum(0))
            factor = schedule_factor(phase.optim, step, total, len(batches))
            for group, lr in zip(optimiser.param_groups, highest, strict=True):
                group["lr"] = lr * factor
            optimiser.step()
            step += 1
    trials = _measured(data, settings, weights, biases, device)
    return sorted(trials, key=lambda trial: (-trial.accuracy, trial.loss))


def _measured(
    data: ActivationDataModule,
    settings: list[tuple[float, float]],
    weights: Tensor,
    biases: Tensor,
    device: torch.device,
) -> list[Trial]:
    if data.val.labels.ndim == 2:
        return _measured_on_labels(data, settings, weights, biases, device)
    count, classes = biases.shape
    right, loss, seen = torch.zeros(count, device=device), torch.zeros(count, device=device), 0
    for batch, labels in data.val_dataloader():
        x, labels = batch.to(device).float(), labels.to(device)
        logits = (x @ weights.flatten(0, 1).T).unflatten(1, (count, classes)) + biases
        right += (logits.argmax(-1) == labels[:, None]).sum(0)
        loss -= logits.log_softmax(-1).gather(-1, labels[:, None, None].expand(-1, count, 1)).sum((0, 2))
        seen += len(labels)
    results = zip(settings, (right / seen).tolist(), (loss / seen).tolist(), strict=True)
    return [Trial(lr, decay, accuracy, mean) for (lr, decay), accuracy, mean in results]


def _measured_on_labels(
    data: ActivationDataModule,
    settings: list[tuple[float, float]],
    weights: Tensor,
    biases: Tensor,
    device: torch.device,
) -> list[Trial]:
    labels = torch.from_numpy(data.val.labels).to(device)
    trials = []
    for (lr, decay), weight, bias in zip(settings, weights, biases, strict=True):  # one after the other: it fits
        logits = torch.cat([F.linear(x.to(device).float(), weight, bias) for x, _ in data.val_dataloader()])
        loss = classification_loss(logits, labels, multilabel=True)
        trials.append(Trial(lr, decay, float(mean_average_precision(logits.sigmoid(), labels)), float(loss)))
    return trials


def _with_gradient(values: Tensor, gradient: Tensor) -> nn.Parameter:
    """Return a parameter over the memory of ``values`` whose gradient is read from ``gradient``."""
    parameter = nn.Parameter(values)
    parameter.grad = gradient
    return parameter


def _smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    if labels.ndim == 2:
        return labels * (1 - smoothing) + smoothing / 2
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
