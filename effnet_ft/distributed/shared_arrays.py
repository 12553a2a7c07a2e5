"""Cached arrays that all ranks of a node fill together, each its share."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from filelock import Timeout

from effnet_ft.distributed.collectives import NodeGroup, all_gather, run_on_all_ranks, world_size
from effnet_ft.utils.array_cache import ArrayCache, array_key

Name = TypeVar("Name", bound=Hashable)

_LOCK_SECONDS = 2.0  # how long a node's leader waits for the lock in each round


@dataclass(frozen=True)
class ArraySpec:
    """An array to open or fill."""

    key: str  # in the cache
    shape: tuple[int, ...]
    dtype: str
    about: str  # a description for people

    @property
    def size(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def open_or_fill(
    cache: ArrayCache,
    plan: Callable[[], Mapping[Name, ArraySpec]],
    fill: Callable[[Mapping[Name, np.ndarray], NodeGroup], None],
    limit: int | None,
) -> tuple[dict[Name, np.ndarray], bool]:
    """Return the arrays of ``plan``, and whether any had to be filled; all ranks of a run call this together.

    The leader of each node opens the cached arrays and creates the missing ones; all ranks of the node fill them, and
    the leader publishes them. Another run, or another node that shares the folder, waits and then opens them.

    Args:
        plan: returns which arrays are wanted; called on the node leaders only.
        fill: fills this rank's share of the missing arrays.
        limit: bytes that the cache may take in all; None for no limit.

    Raises:
        Exception: on all ranks, what ``plan`` or ``fill`` raise on one; OSError if the disk is full, or if another run
            evicted an array.
    """
    group = NodeGroup.at(cache.folder)
    specs = group.broadcast_from_leader(run_on_all_ranks(lambda: dict(plan()) if group.is_leader else {}))
    wanted, computed, waiting = specs, False, True
    while waiting:
        filled, locked_out = _fill_missing(cache, group, wanted, fill, limit)
        computed |= filled
        waiting = any(all_gather(locked_out))
        wanted = specs if locked_out else {}  # a node that was locked out finds the other's arrays in the next round

    def open_all() -> dict[Name, np.ndarray]:
        arrays = {}
        for name, spec in specs.items():
            if (array := cache.open(spec.key, checked=False)) is None:
                raise OSError(f"{spec.about} was removed by another run")
            arrays[name] = array
        return arrays

    return run_on_all_ranks(open_all), computed


def _fill_missing(
    cache: ArrayCache,
    group: NodeGroup,
    specs: Mapping[Name, ArraySpec],
    fill: Callable[[Mapping[Name, np.ndarray], NodeGroup], None],
    limit: int | None,
) -> tuple[bool, bool]:
    """Create and fill the missing arrays; return whether there were any and, on leaders, whether they were locked."""
    with ExitStack() as stack:

        def create_missing() -> dict[Name, np.ndarray] | None:
            if not group.is_leader or not specs:
                return {}
            keys = [spec.key for spec in specs.values()]
            try:
                # Only a single process may wait for ever: the rank that holds the lock may itself wait for this one
                # in a collective. So on timeout this leader creates nothing and takes part in the next round.
                timeout = -1 if world_size() == 1 else _LOCK_SECONDS
                stack.enter_context(cache.lock(array_key(keys=keys)).acquire(timeout=timeout))
            except Timeout:
                return None
            missing = {name: spec for name, spec in specs.items() if cache.open(spec.key) is None}
            if not missing:
                stack.close()  # so that the next node need not wait
            elif limit is not None:
                cache.evict(limit - sum(spec.size for spec in missing.values()), set(keys))
            return {
                name: stack.enter_context(cache.create(spec.key, spec.shape, np.dtype(spec.dtype), spec.about))
                for name, spec in missing.items()
            }

        created = run_on_all_ranks(create_missing)
        names = {name: str(array.filename) for name, array in (created or {}).items()}  # type: ignore[attr-defined]
        files = group.broadcast_from_leader(names)

        def fill_share() -> None:
            if files:
                arrays = created or {name: np.load(file, mmap_mode="r+") for name, file in files.items()}
                fill(arrays, group)
                for array in arrays.values():
                    array.flush()  # type: ignore[attr-defined]

        run_on_all_ranks(fill_share)
        run_on_all_ranks(stack.close)
    return bool(files), created is None
