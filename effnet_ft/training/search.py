"""Chooses learning rates: for a head a whole grid on its stored features, for later phases a range test.

The grid is that of Kornblith et al. 2019 (arXiv:1805.08974): seven learning rates between 0.0001 and 0.1, each with
seven weight decays between 0.000001 and 0.001 and with none. All settings are trained side by side as one problem.
"""

from __future__ import annotations

import copy
import csv
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from effnet_ft import processes
from effnet_ft.data.stored import StoredDataModule
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import STAGES
from effnet_ft.results.metrics import mean_average_precision
from effnet_ft.training.distributed import average_over_processes
from effnet_ft.training.losses import classification_loss
from effnet_ft.training.optim import OPTIMISERS, learning_rate_factor, parameter_groups
from effnet_ft.training.phases import PhasePlan
from effnet_ft.writing import whole_file

log = logging.getLogger(__name__)

LEARNING_RATES = tuple(np.logspace(-4, -1, 7).tolist())
WEIGHT_DECAYS = (0.0, *np.logspace(-6, -3, 7).tolist())

_MOST_STEPS = 600
_RANGE_STEPS = 60
_RANGE = (1e-6, 1.0)


@dataclass(frozen=True)
class Trial:
    """A setting of the grid and what it came to on the validation images.

    Where an image has several labels, the accuracy is their mean average precision.
    """

    lr: float
    weight_decay: float
    accuracy: float
    loss: float


def search_head(
    data: StoredDataModule, features: int, classes: int, plan: PhasePlan, device: torch.device
) -> list[Trial]:
    """Train a linear head at every setting of the grid, and return what came out, the best first.

    Args:
        data: stored features of the phase.
        features: length of a feature vector.
        classes: how many.
        plan: the phase: its optimiser, schedule, smoothing, dropout, batches and epochs, of which the search may take
            fewer.
        device: where it is computed.
    """
    settings = [(lr, decay) for lr in LEARNING_RATES for decay in WEIGHT_DECAYS]
    generator = torch.Generator().manual_seed(plan.index)
    count = len(settings)
    drawn = torch.Generator(device).manual_seed(plan.index)
    weight = torch.empty(classes, features).normal_(std=0.01, generator=generator)  # as a new linear head is drawn
    weights = weight.to(device).repeat(count, 1, 1)
    biases = torch.zeros(count, classes, device=device)
    weight_gradients, bias_gradients = torch.zeros_like(weights), torch.zeros_like(biases)
    optimiser = OPTIMISERS[plan.optim.name](
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
        plan.optim.momentum,
        True,
    )
    highest = [group["lr"] for group in optimiser.param_groups]
    batches = data.train_dataloader()
    epochs = min(plan.epochs, max(1, _MOST_STEPS // len(batches)))
    total, step = epochs * len(batches), 0
    for epoch in range(epochs):
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch, labels in batches:
            x, targets = batch.to(device).float(), _smoothed(labels.to(device), classes, plan.optim.label_smoothing)
            kept = 1 - plan.model.dropout
            x = x * torch.empty_like(x).bernoulli_(kept, generator=drawn) / kept
            logits = (x @ weights.flatten(0, 1).T).unflatten(1, (count, classes)) + biases
            # Of several labels an image, the loss is a mean over them too.
            answers = logits.softmax(-1) if labels.ndim == 1 else logits.sigmoid() / classes
            goal = targets if labels.ndim == 1 else targets / classes
            errors = (answers - goal[:, None]) / len(x)
            weight_gradients.copy_((errors.flatten(1).T @ x).unflatten(0, (count, classes)))
            bias_gradients.copy_(errors.sum(0))
            factor = _factor(plan, step, total, len(batches))
            for group, lr in zip(optimiser.param_groups, highest, strict=True):
                group["lr"] = lr * factor
            optimiser.step()
            step += 1
    trials = _measured(data, settings, weights, biases, device)
    return sorted(trials, key=lambda trial: (-trial.accuracy, trial.loss))


def range_test(
    model: Classifier, batches: Iterable[tuple[Tensor, Tensor]], stored: bool, plan: PhasePlan, device: torch.device
) -> tuple[float, list[tuple[float, float]]]:
    """Raise the learning rate step by step until the loss rises, and return half of the rate at which it had risen.

    After Smith 2017 (arXiv:1506.01186); a loss a tenth above its lowest has risen. Where it was lowest tells nothing of
    a network that is trained already, whose loss only rises. The model is left as it was. Several processes test
    together, each on its part of a step's images.

    Args:
        model: frozen and cut as the phase wants it.
        batches: of the phase.
        stored: they hold what the prefix made of the images.
        plan: the phase.
        device: where the model is.

    Returns:
        The learning rate, and the curve: learning rates and smoothed losses.
    """
    trial = copy.deepcopy(model).to(device).train()
    optimiser = OPTIMISERS[plan.optim.name](
        parameter_groups(trial, plan.optim.weight_decay), _RANGE[0], plan.optim.momentum, True
    )
    curve: list[tuple[float, float]] = []
    average = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(plan.index)
        for step, (x, labels) in enumerate(_endless(batches, _RANGE_STEPS)):
            lr = _RANGE[0] * (_RANGE[1] / _RANGE[0]) ** (step / (_RANGE_STEPS - 1))
            for group in optimiser.param_groups:
                group["lr"] = lr
            network = trial.suffix if stored else trial
            loss = classification_loss(
                network(x.to(device)),
                labels.to(device),
                multilabel=model.multilabel,
                smoothing=plan.optim.label_smoothing,
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            average_over_processes([value.grad for value in trial.parameters() if value.grad is not None])
            optimiser.step()
            average_over_processes([loss.detach()])
            average = 0.8 * average + 0.2 * loss.item()
            smoothed = average / (1 - 0.8 ** (step + 1))
            curve.append((lr, smoothed))
            if not math.isfinite(smoothed) or smoothed > 2 * min(value for _, value in curve):
                break
    return _risen(curve) / 2, curve


def _risen(curve: list[tuple[float, float]]) -> float:
    lowest = min(range(len(curve)), key=lambda step: curve[step][1] if math.isfinite(curve[step][1]) else math.inf)
    behind = (lr for lr, loss in curve[lowest:] if not loss <= 1.1 * curve[lowest][1])
    return next(behind, curve[-1][0])


def choose(
    plan: PhasePlan, model: Classifier, data: pl.LightningDataModule, device: torch.device, folder: Path
) -> PhasePlan:
    """Return ``plan`` with its learning rate chosen, and for a head its weight decay; the search goes into ``folder``.

    A linear head on stored features is searched on the grid, by the first process for all; anything else takes a range
    test.
    """
    path = folder / f"lr_search-{plan.index + 1}.csv"
    stored = isinstance(data, StoredDataModule)
    if isinstance(data, StoredDataModule) and plan.cut == STAGES and plan.model.head == "linear":
        features, classes = model.variant.features, len(model.classes)
        main = processes.rank() == 0
        trials = processes.from_main(search_head(data.alone(), features, classes, plan, device) if main else [])
        rank_zero_only(write_trials)(trials, path, "val/map" if model.multilabel else "val/acc1")
        best = trials[0]
        log.info(
            "learning rate %.2g, weight decay %.2g: the best of %d settings on the validation images (%.1f%%)",
            *(best.lr, best.weight_decay, len(trials), 100 * best.accuracy),
        )
        decay = best.weight_decay * (best.lr if plan.optim.decay_unit == "step" else 1)
        return replace(plan, lr=best.lr, optim=replace(plan.optim, weight_decay=decay))
    lr, curve = processes.from_main(range_test(model, data.train_dataloader(), stored, plan, device))
    rank_zero_only(write_curve)(curve, path)
    log.info("learning rate %.2g: half of the rate at which the loss rose in a range test of %d steps", lr, len(curve))
    return replace(plan, lr=lr)


def write_trials(trials: list[Trial], path: Path, score: str = "val/acc1") -> None:
    """Write the grid as CSV, the best first."""
    rows = [
        (f"{trial.lr:.6g}", f"{trial.weight_decay:.6g}", f"{trial.accuracy:.6f}", f"{trial.loss:.6f}")
        for trial in trials
    ]
    _write(path, ("lr", "weight_decay", score, "val/loss"), rows)


def write_curve(curve: list[tuple[float, float]], path: Path) -> None:
    """Write a range test's curve as CSV."""
    _write(path, ("lr", "train/loss"), [(f"{lr:.6g}", f"{loss:.6f}") for lr, loss in curve])


def _measured(
    data: StoredDataModule, settings: list[tuple[float, float]], weights: Tensor, biases: Tensor, device: torch.device
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
    data: StoredDataModule, settings: list[tuple[float, float]], weights: Tensor, biases: Tensor, device: torch.device
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


def _factor(plan: PhasePlan, step: int, total: int, steps_an_epoch: int) -> float:
    return learning_rate_factor(
        step,
        schedule=plan.optim.schedule,
        total_steps=total,
        warmup_steps=plan.optim.warmup_epochs * steps_an_epoch,
        drop_steps=plan.optim.step_epochs * steps_an_epoch,
        drop_factor=plan.optim.step_factor,
    )


def _endless(batches: Iterable[tuple[Tensor, Tensor]], count: int) -> Iterable[tuple[Tensor, Tensor]]:
    given = 0
    while given < count:
        for batch in batches:
            if given == count:
                return
            given += 1
            yield batch


def _write(path: Path, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with whole_file(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
