"""What a plan is decided by: facts of the images and of the machine."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effnet_ft.data.images.decoding import image_sides
from effnet_ft.data.splits.split import Split
from effnet_ft.distributed.collectives import NodeGroup, all_gather, external_launch, world_size
from effnet_ft.recipe.plan import ImageFacts
from effnet_ft.utils.array_cache import ArrayCache, half_of_free_memory

_LOOKED_AT = 100
"""Images whose headers are read: a network disk takes long."""


@dataclass(frozen=True)
class Machine:
    """What this machine, or the least of several, has for a run."""

    gpus: int = 0  # that torch sees
    mps: bool = False  # Apple's GPU
    bf16: bool = False  # the GPUs compute in bfloat16 without emulating it
    launched: tuple[int, int] | None = None  # processes per node, and nodes, if torchrun or SLURM started them
    compiler: bool = False  # for torch.compile
    cache_bytes: int = 10**12  # that the cache may take: half of the disk's free space and of what it takes already
    memory_bytes: int = 10**12  # for decoded images: half of the free memory, shared by the node's processes
    cache: str = ""  # its folder


def machine_facts(cache: ArrayCache | None = None) -> Machine:
    """Return the facts of this machine, or the least of all machines of a distributed run, whose processes all call."""
    import torch

    cache = cache or ArrayCache()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    own = Machine(
        gpus=gpus,
        mps=torch.backends.mps.is_available(),
        bf16=gpus > 0 and torch.cuda.is_bf16_supported(including_emulation=False),
        launched=external_launch(),
        compiler=any(map(shutil.which, ("c++", "g++", "clang++"))),
        cache_bytes=cache.half_of_free_disk(),
        memory_bytes=half_of_free_memory(),
        cache=str(cache.folder),
    )
    if world_size() == 1:
        return own
    ranks = len(NodeGroup.at(cache.folder).ranks)
    return least_of(all_gather(replace(own, memory_bytes=own.memory_bytes // ranks)))


def least_of(machines: Sequence[Machine]) -> Machine:
    """Return the facts of the first machine, with the least disk and memory of all."""
    return replace(
        machines[0],
        cache_bytes=min(machine.cache_bytes for machine in machines),
        memory_bytes=min(machine.memory_bytes for machine in machines),
    )


def image_facts(split: Split) -> ImageFacts:
    """Return the facts of a split; the headers of some training images are read."""
    step = max(1, len(split.train) // _LOOKED_AT)
    paths = [split.image(sample) for sample in split.train[::step]]
    sides = image_sides([path for path in paths if isinstance(path, Path)])
    return ImageFacts(
        train=len(split.train),
        val=len(split.val),
        test=len(split.test),
        classes=len(split.classes),
        multilabel=split.multilabel,
        short_side=int(np.median([min(side) for side in sides])) if sides else 0,
        long_side=int(np.median([max(side) for side in sides])) if sides else 0,
    )
