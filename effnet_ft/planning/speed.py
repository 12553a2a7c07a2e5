"""How fast this machine is: a few steps of each kind of work are timed, once, and remembered in the cache."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

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
    """What work takes, for one image on one device."""

    step: float  # of training, seconds
    forward: float  # of the whole network in evaluation, seconds
    prefix: float  # of the frozen stages, seconds; 0 if none is frozen
    step_bytes: float  # memory of a training step beside the weights


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


def trial_model(phase: PhasePlan, variant: str, head: str, classes: int, device: torch.device) -> Classifier:
    """Return a network without pretrained weights, frozen as in ``phase``."""
    model = Classifier(variant, classes=[str(number) for number in range(classes)], head=head).to(device)
    model.freeze(phase.cut, phase.batchnorm)
    model.checkpointing = phase.checkpointing
    return model


def trial_step(
    phase: PhasePlan,
    model: Classifier,
    network: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    precision: str,
) -> tuple[Callable[[], None], Callable[[], int]]:
    """Return a training step on ``x``, and what counts the bytes that one stores for its backward pass."""
    optimiser = OPTIMIZERS[phase.optim.optimizer](parameter_groups(model, 0.0), 1e-9, phase.optim.momentum, True)
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
    stored: dict[int, int] = {}

    def loss() -> torch.Tensor:
        with _autocast(precision, x.device):
            return F.cross_entropy(network(x), labels)

    def step() -> None:
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    def store(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    def used() -> int:
        with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            _ = loss()
        return sum(stored.values())

    return step, used


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST)


def _measure(plan: Plan, phase: PhasePlan, device: torch.device) -> Speed:
    variant, size, batch = VARIANTS[plan.model.variant], phase.image_size, phase.batch_size
    model = trial_model(phase, plan.model.variant, plan.model.head, plan.images.classes, device)
    folded = fold_batchnorm(model.eval())
    views = torch.zeros(_FORWARD_VIEWS, 3, size, size, dtype=torch.uint8, device=device)

    def forward() -> None:
        with torch.no_grad(), _autocast(plan.trainer.precision, device):
            folded(views)

    def prefix() -> None:
        with torch.no_grad(), _autocast(plan.trainer.precision, device):
            list(folded.at_cuts(views, [phase.cut]))

    stored = phase.source.kind == "stored"
    if stored and phase.cut == STAGES:
        x = torch.rand(batch, variant.features, device=device)
    elif stored:
        height, width, channels = variant.activation_shape(phase.cut, size)
        x = torch.rand(batch, channels, height, width, device=device).contiguous(memory_format=torch.channels_last)
    else:
        x = torch.zeros(batch, 3, size, size, dtype=torch.uint8, device=device)
    network = model.suffix if stored else model.forward
    step, used = trial_step(phase, model, network, x, plan.trainer.precision)
    model.train()
    return Speed(
        step=_timed(step, device) / batch,
        forward=_timed(forward, device) / _FORWARD_VIEWS,
        prefix=_timed(prefix, device) / _FORWARD_VIEWS if phase.cut else 0.0,
        step_bytes=used() / batch,
    )


def _timed(work: Callable[[], None], device: torch.device) -> float:
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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
