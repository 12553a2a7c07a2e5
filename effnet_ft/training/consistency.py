"""Checks that all ranks have the same images and weights, and collectives for what DDP does not synchronise."""

import zlib
from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor, nn

from effnet_ft.data.splits.split import Split
from effnet_ft.distributed import collectives
from effnet_ft.errors import DataError, WeightsError
from effnet_ft.utils.text import counted, listing


def require_same_images(split: Split) -> None:
    """Raise a :class:`DataError` on all ranks if they see different images, or there are too few for them."""
    count = collectives.world_size()
    parts = {name: split.part(name) for name in ("train", "val", "test")}
    listed = [(sample.path, sample.label) for samples in parts.values() for sample in samples]
    seen = collectives.all_gather((len(listed), zlib.crc32(repr(listed).encode())))
    error: DataError | None = None
    if other := next((rank for rank, found in enumerate(seen) if found != seen[0]), None):
        error = DataError(
            f"process {other} does not see the same images as process 0 ({seen[other][0]} and {seen[0][0]}, or other "
            f"paths or labels): data.root must hold the same files on every node"
        )
    elif count > 1 and (few := [name for name in ("train", "val") if len(parts[name]) < 2 * count]):
        error = DataError(
            f"only {counted(len(parts[few[0]]), f'{few[0]} image')} for {count} processes, which need two each: "
            f"lower trainer.devices"
        )
    collectives.raise_on_all_ranks(error)


def share_statistics(model: nn.Module) -> None:
    """Copy rank 0's batch-norm statistics to all ranks; after a phase, each has those of its own batches."""
    if collectives.world_size() > 1:
        state = collectives.broadcast({name: value.cpu() for name, value in model.named_buffers()})
        for name, value in model.named_buffers():
            value.copy_(state[name])


def require_same_weights(model: nn.Module, when: str) -> None:
    """Raise a :class:`WeightsError` on all ranks if their weights differ in any bit; ``when`` is for the message."""
    if collectives.world_size() == 1:
        return
    found = collectives.all_gather({name: _checksum(value) for name, value in model.state_dict().items()})
    for rank, checksums in enumerate(found):
        if different := [name for name, checksum in found[0].items() if checksums.get(name) != checksum]:
            error = WeightsError(
                f"{when}, process {rank} does not have the same weights as process 0, "
                f"in {counted(len(different), 'tensor')}: model.weights must be the same file "
                f"on every node, and the program the same version\n{listing(different, 5)}"
            )
            return collectives.raise_on_all_ranks(error)


def all_reduce_mean(values: Iterable[Tensor]) -> None:
    """Replace each of ``values`` in place by its mean over all ranks."""
    if collectives.world_size() > 1:
        for value in values:
            dist.all_reduce(value)
            value /= collectives.world_size()


def _checksum(value: Tensor) -> int:
    return zlib.crc32(value.detach().cpu().contiguous().numpy().tobytes())
