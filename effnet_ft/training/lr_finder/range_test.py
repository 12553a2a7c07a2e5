"""The range test: the learning rate rises step by step until the loss does.

After Smith 2017 (arXiv:1506.01186).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.losses import classification_loss
from effnet_ft.optim.optimizers import OPTIMIZERS, parameter_groups
from effnet_ft.recipe.plan import PhasePlan
from effnet_ft.training.consistency import all_reduce_mean

_STEPS = 60
_RANGE = (1e-6, 1.0)


def range_test(
    model: Classifier,
    batches: Iterable[tuple[Tensor, Tensor]],
    stored: bool,
    phase: PhasePlan,
    device: torch.device,
    precision: str,
) -> tuple[float, list[tuple[float, float]]]:
    """Raise the learning rate step by step until the loss rises, and return half of the rate at which it had risen.

    A loss a tenth above its lowest has risen. Where it was lowest tells nothing of a network that is trained already,
    whose loss only rises. The model is left as it was. Several processes test together, each on its part of a step's
    images.

    Args:
        model: frozen and cut as the phase wants it.
        batches: of the phase.
        stored: they hold what the prefix made of the images.
        phase: what is trained.
        device: where the model is.
        precision: of what is computed.

    Returns:
        The learning rate, and the curve: learning rates and smoothed losses.
    """
    trial = copy.deepcopy(model).to(device).train()
    optimiser = OPTIMIZERS[phase.optim.optimizer](
        parameter_groups(trial, phase.optim.weight_decay), _RANGE[0], phase.optim.momentum, True
    )
    curve: list[tuple[float, float]] = []
    average = 0.0
    bf16 = precision == "bf16-mixed"  # float16 would need its gradients scaled
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(phase.index)
        for step, (x, labels) in enumerate(_endless(batches, _STEPS)):
            lr = _RANGE[0] * (_RANGE[1] / _RANGE[0]) ** (step / (_STEPS - 1))
            for group in optimiser.param_groups:
                group["lr"] = lr
            network = trial.suffix if stored else trial
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = classification_loss(
                    network(x.to(device)),
                    labels.to(device),
                    multilabel=model.multilabel,
                    smoothing=phase.optim.label_smoothing,
                )
            images = torch.tensor(float(len(labels)), device=device)
            all_reduce_mean([images])
            loss = loss * (len(labels) / images)  # the processes' parts of a step may differ by an image
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            all_reduce_mean([value.grad for value in trial.parameters() if value.grad is not None])
            optimiser.step()
            all_reduce_mean([loss.detach()])
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


def _endless(batches: Iterable[tuple[Tensor, Tensor]], count: int) -> Iterable[tuple[Tensor, Tensor]]:
    given = 0
    while given < count:
        for batch in batches:
            if given == count:
                return
            given += 1
            yield batch
