"""What a run will take: time, disk and memory, from a measurement of a few steps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from effnet_ft.data.images.decoding import read_image
from effnet_ft.data.images.transforms import SHORT_SIDE
from effnet_ft.errors import DataError
from effnet_ft.models.variants import VARIANTS
from effnet_ft.planning.devices import torch_device
from effnet_ft.planning.sources import pixels_of, stored_arrays
from effnet_ft.planning.speed import Speed, measured_speed
from effnet_ft.recipe.plan import Estimate, PhasePlan, Plan
from effnet_ft.utils.array_cache import ArrayCache

_FIXED_SECONDS = 6.0
"""Reading the list of images, calibration, the report."""

_GRID_SECONDS = 2.5e-10
"""Of the grid of heads, for each step, setting, image of the batch, feature and class; on two cores."""

_RANGE_TEST_STEPS = 60
_GRID_STEPS, _GRID_SETTINGS = 600, 56
_DECODED_SECONDS = 0.003
"""To augment an image that is decoded, on one core."""

_PROGRAM_BYTES = 700_000_000
"""Python, torch and Lightning themselves, in the machine's memory."""


def with_estimate(plan: Plan, files: Sequence[Path], cache: ArrayCache | None = None) -> Plan:
    """Return ``plan`` with what it is expected to take; ``files``, some training images, are decoded to time that."""
    cache, device = cache or ArrayCache(), torch_device(plan.trainer)
    decode = _decoding_seconds(files, plan.data.image_size)
    phases, seconds, memory = [], _FIXED_SECONDS, 0.0
    computed: set[object] = set()
    speed = None
    for phase in plan.phases:
        speed = measured_speed(plan, phase, device, cache)
        place = (pixels_of(phase), phase.cut if phase.source.kind == "stored" else phase.source.kind)
        took = _phase_seconds(plan, phase, speed, decode, place in computed)
        computed |= {place, *((pixels_of(phase), cut) for cut in phase.source.cuts)}
        phases.append(replace(phase, seconds=round(took, 1)))
        seconds += took
        # Weights, gradients and an optimiser with two values per weight; activations.
        memory = max(memory, 16 * VARIANTS[plan.model.variant].parameters + speed.step_bytes * phase.batch_size)
    if speed is not None:
        evaluated = plan.images.val + plan.images.test
        seconds += evaluated * max(speed.forward, decode / torch.get_num_threads()) / plan.trainer.processes
    if not plan.trainer.on_gpu:
        memory += _PROGRAM_BYTES
    estimate = Estimate(round(seconds, 1), _disk_bytes(plan), int(memory))
    return replace(plan, phases=tuple(phases), estimate=estimate)


def _phase_seconds(plan: Plan, phase: PhasePlan, speed: Speed, decode: float, computed: bool) -> float:
    """Return the seconds of a phase: of what is computed once, the learning rate search, training and validation."""
    images, source = plan.images, phase.source
    each, validated = speed.step, speed.forward
    once = 0.0 if computed else (images.train + images.val) * decode / torch.get_num_threads()
    if source.kind == "stored":
        once += 0.0 if computed else (images.train * source.views + images.val) * speed.prefix
        validated = max(0.0, speed.forward - speed.prefix)
    elif source.kind == "decoded":
        each = max(each, _DECODED_SECONDS / max(1, plan.data.workers))
    else:
        once, each = 0.0, max(each, (decode + _DECODED_SECONDS) / max(1, plan.data.workers))
    search = 0.0
    if phase.search == "range test":
        search = _RANGE_TEST_STEPS * phase.batch_size * phase.optim.accumulate * each
    elif phase.search:
        steps = min(_GRID_STEPS, phase.steps * phase.optim.accumulate)
        values = phase.batch_size * VARIANTS[plan.model.variant].features * images.classes
        search = steps * _GRID_SETTINGS * values * _GRID_SECONDS
    epochs = phase.epochs * (images.train * each + images.val * validated)
    return (once + epochs) / plan.trainer.processes + search


def _disk_bytes(plan: Plan) -> int:
    """Return the bytes of stored activations, decoded images and checkpoints."""
    decoded = {pixels_of(phase): phase.source.bytes for phase in plan.phases if phase.source.place == "disk"}
    checkpoints = 3 * 3 * 4 * VARIANTS[plan.model.variant].parameters
    return sum(stored_arrays(plan).values()) + sum(decoded.values()) + checkpoints


def _decoding_seconds(files: Sequence[Path], size: int) -> float:
    """Return the mean seconds to decode one of ``files`` on one core."""
    start, read = perf_counter(), 0
    for path in files[:16]:
        try:
            read_image(path, int(SHORT_SIDE * size))
        except (DataError, OSError):  # reported by the training
            continue
        read += 1
    return (perf_counter() - start) / read if read else 0.0
