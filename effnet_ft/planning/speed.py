"""How fast this machine is: a few steps of each kind of work are timed, once, and remembered in the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F

from effnet_ft.models.batchnorm_folding import fold_batchnorm
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import STAGES, VARIANTS
from effnet_ft.optim.optimizers import OPTIMIZERS, parameter_groups
from effnet_ft.planning.devices import AUTOCAST
from effnet_ft.recipe.plan import PhasePlan, Plan
from effnet_ft.utils.array_cache import ArrayCache, array_key
from effnet_ft.utils.machine_resources import processor_name

_VERSION = 1
_ENOUGH_SECONDS = 0.3
"""Of timed steps; slower ones are timed once."""

_FORWARD_VIEWS = 16


@dataclass(frozen=True)
class Speed:
    """What work takes, for one image on one device.

    Attributes:
        step: seconds of a training step.
        forward: seconds of the whole network, for evaluation.
        prefix: seconds of the frozen stages; 0 where none is frozen.
        step_bytes: memory that a step takes beside the weights.
    """

    step: float
    forward: float
    prefix: float
    step_bytes: float


def measured_speed(plan: Plan, phase: PhasePlan, device: torch.device, cache: ArrayCache) -> Speed:
    """Return the speed of a phase on this machine, measured now or remembered."""
    key = array_key(
        kind="speed",
        version=_VERSION,
        processor=torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        variant=plan.model.variant,
        head=plan.model.head,
        classes=plan.images.classes,
        precision=plan.trainer.precision,
        cut=phase.cut,
        size=phase.image_size,
        batch=phase.batch_size,
        optimizer=phase.optim.optimizer,
        checkpointing=phase.checkpointing,
        stored=phase.source.kind == "stored",
    )
    if known := cache.stored_text(key):
        return Speed(**json.loads(known))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        speed = _measure(plan, phase, device)
    cache.store_text(key, json.dumps(asdict(speed)))
    return speed


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that ``work`` takes, after one run that does not count."""
    work()
    _wait(device)
    start, runs = time.perf_counter(), 0
    while True:
        work()
        _wait(device)
        runs += 1
        if (passed := time.perf_counter() - start) > _ENOUGH_SECONDS or runs == 20:
            return passed / runs


def _measure(plan: Plan, phase: PhasePlan, device: torch.device) -> Speed:
    variant, size, batch = VARIANTS[plan.model.variant], phase.image_size, phase.batch_size
    classes = [str(number) for number in range(plan.images.classes)]
    model = Classifier(plan.model.variant, classes=classes, head=plan.model.head).to(device)
    model.freeze(phase.cut, phase.batchnorm)
    model.checkpointing = phase.checkpointing
    folded = fold_batchnorm(model.eval())
    kind = AUTOCAST.get(plan.trainer.precision)
    views = torch.zeros(_FORWARD_VIEWS, 3, size, size, dtype=torch.uint8, device=device)

    def forward() -> None:
        with torch.no_grad(), torch.autocast(device.type, kind, enabled=kind is not None):
            folded(views)

    def prefix() -> None:
        with torch.no_grad(), torch.autocast(device.type, kind, enabled=kind is not None):
            list(folded.at_cuts(views, [phase.cut]))

    if phase.source.kind == "stored" and phase.cut == STAGES:
        x = torch.rand(batch, variant.features, device=device)
    elif phase.source.kind == "stored":
        height, width, channels = variant.activation_shape(phase.cut, size)
        x = torch.rand(batch, channels, height, width, device=device).contiguous(memory_format=torch.channels_last)
    else:
        x = torch.zeros(batch, 3, size, size, dtype=torch.uint8, device=device)
    network = model.suffix if phase.source.kind == "stored" else model.forward
    step, used = _training_step(model, network, x, phase, kind)
    model.train()
    return Speed(
        step=timed(step, device) / batch,
        forward=timed(forward, device) / _FORWARD_VIEWS,
        prefix=timed(prefix, device) / _FORWARD_VIEWS if phase.cut else 0.0,
        step_bytes=used() / batch,
    )


def _training_step(
    model: Classifier,
    network: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    phase: PhasePlan,
    kind: torch.dtype | None,
) -> tuple[Callable[[], None], Callable[[], int]]:
    """Return a step of training, and what counts the bytes that one keeps for its backward pass."""
    optimiser = OPTIMIZERS[phase.optim.optimizer](parameter_groups(model, 0.0), 1e-9, phase.optim.momentum, True)
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
    kept: dict[int, int] = {}

    def loss() -> torch.Tensor:
        with torch.autocast(x.device.type, kind, enabled=kind is not None):
            return F.cross_entropy(network(x), labels)

    def step() -> None:
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def used() -> int:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss_value = loss()
        del loss_value
        return sum(kept.values())

    return step, used


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
