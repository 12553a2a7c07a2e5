"""Searches a linear head's learning rate and weight decay: all settings of a grid are trained side by side.

The grid is that of Kornblith et al. 2019 (arXiv:1805.08974): seven learning rates between 0.0001 and 0.1, each with
seven weight decays between 0.000001 and 0.001 and with none.
"""

import math
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.evaluation.metrics import mean_average_precision
from effnet_ft.optim.losses import classification_loss, target_mass
from effnet_ft.optim.optimizers import OPTIMIZERS
from effnet_ft.optim.schedules import ema_update_weight, schedule_factor
from effnet_ft.recipe.plan import PhasePlan
from effnet_ft.training.module import FineTuner

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
    data: ActivationDataModule, module: FineTuner, phase: PhasePlan, device: torch.device
) -> list[Trial]:
    """Train the linear head of ``module`` at every setting of the grid; return what came out, the best first.

    Each setting takes the steps that the training would: the same start, loss, clipping, accumulation and averaging,
    for at most :data:`_MOST_STEPS` batches. The module's head is left as it was.
    """
    settings = [(lr, decay) for lr in LEARNING_RATES for decay in WEIGHT_DECAYS]
    count, optim, head = len(settings), module.optim, module.model.head[-1]
    assert isinstance(head, nn.Linear)
    class_weights = None if module.class_weights is None else module.class_weights.to(device)
    drawn = torch.Generator(device).manual_seed(phase.index)
    weights = head.weight.detach().to(device).repeat(count, 1, 1)
    biases = head.bias.detach().to(device).repeat(count, 1)
    parameters, gradients = (weights, biases), (torch.zeros_like(weights), torch.zeros_like(biases))
    groups = [
        {"params": [_with_gradient(values[number], gradient[number])], "lr": lr, "weight_decay": decay * decayed}
        for number, (lr, decay) in enumerate(settings)
        for values, gradient, decayed in zip(parameters, gradients, (1, 0), strict=True)
    ]
    optimiser = OPTIMIZERS[optim.optimizer](groups, LEARNING_RATES[0], optim.momentum, True)
    highest = [group["lr"] for group in optimiser.param_groups]
    averages = (weights.clone(), biases.clone())
    batches = data.train_dataloader()
    epochs = min(phase.epochs, max(1, _MOST_STEPS // len(batches)))
    an_epoch = math.ceil(len(batches) / optim.accumulate)
    step = 0
    for epoch in range(epochs):
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        stream = iter(batches)
        while step_batches := list(islice(stream, optim.accumulate)):
            images = sum(len(labels) for _, labels in step_batches)
            for gradient in gradients:
                gradient.zero_()
            for batch, labels in step_batches:
                x = batch.to(device).float()
                x = x * torch.empty_like(x).bernoulli_(1 - phase.dropout, generator=drawn) / (1 - phase.dropout)
                logits = (x @ weights.flatten(0, 1).T).unflatten(1, biases.shape) + biases
                errors = _loss_gradient(logits, labels.to(device), optim.label_smoothing, class_weights) / images
                gradients[0].add_((errors.flatten(1).T @ x).unflatten(0, biases.shape))
                gradients[1].add_(errors.sum(0))
            if optim.clip_norm:
                norms = (gradients[0].square().sum((1, 2)) + gradients[1].square().sum(1)).sqrt()
                scale = (optim.clip_norm / (norms + 1e-6)).clamp(max=1)
                gradients[0].mul_(scale[:, None, None])
                gradients[1].mul_(scale[:, None])
            factor = schedule_factor(optim, step, epochs * an_epoch, an_epoch)
            for group, lr in zip(optimiser.param_groups, highest, strict=True):
                group["lr"] = lr * factor
            optimiser.step()
            share = ema_update_weight(torch.tensor(float(step)), optim.ema).item() if optim.ema and step else 1.0
            for average, values in zip(averages, parameters, strict=True):
                average.lerp_(values, share)
            step += 1
    trials = _evaluate(data, settings, *averages)
    return sorted(trials, key=lambda trial: (-trial.accuracy, trial.loss))


def _loss_gradient(logits: Tensor, labels: Tensor, smoothing: float, class_weights: Tensor | None) -> Tensor:
    """Return the gradient of each image's training loss at its logits, both ``[N, settings, K]``."""
    if labels.ndim == 1:
        mass = target_mass(labels, logits.shape[-1], smoothing, class_weights)[:, None]
        return mass.sum(-1, keepdim=True) * logits.softmax(-1) - mass
    smoothed = labels * (1 - smoothing) + smoothing / 2
    return (logits.sigmoid() - smoothed[:, None]) / logits.shape[-1]  # the loss is a mean over the labels, too


def _evaluate(
    data: ActivationDataModule,
    settings: list[tuple[float, float]],
    weights: Tensor,
    biases: Tensor,
) -> list[Trial]:
    device = weights.device
    labels = torch.from_numpy(data.val.labels).to(device)
    trials = []
    for (lr, decay), weight, bias in zip(settings, weights, biases, strict=True):  # one after the other: it fits
        logits = torch.cat([F.linear(x.to(device).float(), weight, bias) for x, _ in data.val_dataloader()])
        loss = classification_loss(logits, labels, multilabel=labels.ndim == 2)
        if labels.ndim == 2:
            score = mean_average_precision(logits.sigmoid(), labels)
        else:
            score = (logits.argmax(-1) == labels).float().mean()
        trials.append(Trial(lr, decay, float(score), float(loss)))
    return trials


def _with_gradient(values: Tensor, gradient: Tensor) -> nn.Parameter:
    """Return a parameter over the memory of ``values`` whose gradient is read from ``gradient``."""
    parameter = nn.Parameter(values)
    parameter.grad = gradient
    return parameter
