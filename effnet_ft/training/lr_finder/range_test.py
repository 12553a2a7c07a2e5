"""The range test: the learning rate rises step by step until the loss does.

After Smith 2017 (arXiv:1506.01186).
"""

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from effnet_ft.optim.optimizers import build_optimizer, decay_rate
from effnet_ft.training.consistency import all_reduce_mean
from effnet_ft.training.module import FineTuner

_STEPS = 60
_RANGE = (1e-6, 1.0)


def range_test(
    module: FineTuner, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, precision: str
) -> tuple[float, list[tuple[float, float]]]:
    """Raise the learning rate step by step until the loss rises, and return half of the rate at which it had risen.

    Steps are those of the training: the same optimiser, groups, loss, mixing, clipping and accumulation; averaged
    weights (``ema``) change none of them. A loss a tenth above its lowest has risen. Where it was lowest says nothing
    of a trained network, whose loss only rises. Several processes test together, each on its part of a step's images.
    The module is copied.

    Returns:
        The learning rate, and the curve: learning rates and smoothed losses.
    """
    trial, optim = copy.deepcopy(module).to(device).train(), module.optim
    optimiser = build_optimizer(trial.model, replace(optim, lr=1.0), fused=True)
    groups = [(group, group["lr"], group["weight_decay"] > 0) for group in optimiser.param_groups]
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    curve: list[tuple[float, float]] = []
    average = 0.0
    bf16 = precision == "bf16-mixed"  # float16 would need its gradients scaled
    stream = _endless(batches)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(module.phase)
        for step in range(_STEPS):
            lr = _RANGE[0] * (_RANGE[1] / _RANGE[0]) ** (step / (_STEPS - 1))
            for group, factor, decayed in groups:
                group["lr"] = lr * factor
                group["weight_decay"] = decay_rate(optim.weight_decay, lr, optim.decay_unit) if decayed else 0.0
            batch = list(islice(stream, optim.accumulate))
            images = torch.tensor(float(sum(len(labels) for _, labels in batch)), device=device)
            all_reduce_mean([images])
            total = torch.zeros((), device=device)
            optimiser.zero_grad()
            for x, labels in batch:
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    loss, _ = trial.batch_loss(x.to(device), labels.to(device))
                loss = loss * (len(labels) / images)  # batches, also those of other processes, may differ by an image
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
            all_reduce_mean([value.grad for value in trained if value.grad is not None])
            if optim.clip_norm:
                torch.nn.utils.clip_grad_norm_(trained, optim.clip_norm)
            optimiser.step()
            all_reduce_mean([total])
            average = 0.8 * average + 0.2 * total.item()
            smoothed = average / (1 - 0.8 ** (step + 1))
            curve.append((lr, smoothed))
            if not math.isfinite(smoothed) or smoothed > 2 * min(value for _, value in curve):
                break
    return _risen(curve) / 2, curve


def _risen(curve: list[tuple[float, float]]) -> float:
    lowest = min(range(len(curve)), key=lambda step: curve[step][1] if math.isfinite(curve[step][1]) else math.inf)
    behind = (lr for lr, loss in curve[lowest:] if not loss <= 1.1 * curve[lowest][1])
    return next(behind, curve[-1][0])


def _endless(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches
