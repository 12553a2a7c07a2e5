"""Arrays of the cache, filled by all processes that share its folder, each its part; published when all are in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from filelock import Timeout

from effnet_ft.distributed.collectives import NodeGroup, all_gather, run_on_all_ranks, world_size
from effnet_ft.utils.array_cache import ArrayCache, array_key

Place = TypeVar("Place", bound=Hashable)

_LOCK_SECONDS = 2.0
"""For which the first process of a node tries to get the lock, before the nodes go round once more."""


@dataclass(frozen=True)
class ArraySpec:
    """An array to be filled.

    Attributes:
        key: its name in the cache.
        shape: its shape.
        dtype: its type.
        about: what it is, for people.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    about: str

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def open_or_fill(
    cache: ArrayCache,
    plan: Callable[[], Mapping[Place, ArraySpec]],
    fill: Callable[[Mapping[Place, np.ndarray], NodeGroup], None],
    limit: int | None,
) -> tuple[dict[Place, np.ndarray], bool]:
    """Return the arrays of ``plan``, and whether one had to be filled; all processes of a run call this together.

    The first process of a node looks for them and makes those that are missing; all of the node fill them; when the
    last is done, the first publishes them. Another run, or another node with the same folder, waits for it and then
    finds them.

    Args:
        cache: where they are kept.
        plan: says which; called by the first process of a node alone.
        fill: fills this process's part of the arrays that are missing.
        limit: bytes that all kept arrays may take; None sets no limit.

    Raises:
        Exception: in every process what ``plan`` or ``fill`` raise in one; OSError where the disk is full, or another
            run needed the room.
    """
    crew = NodeGroup.at(cache.folder)
    blanks = crew.broadcast_from_leader(run_on_all_ranks(lambda: dict(plan()) if crew.is_leader else {}))
    served, computed = False, False
    while True:
        filled, missed = _fill_missing(cache, crew, {} if served else blanks, fill, limit)
        computed |= filled
        if not any(all_gather(missed)):
            break
        served = not missed  # what another node made meanwhile is found in the next round
    found: dict[Place, np.ndarray] = {}

    def open_all() -> None:
        for place, blank in blanks.items():
            array = cache.open(blank.key, checked=False)
            if array is None:
                raise OSError(f"{blank.about} was removed by another run")
            found[place] = array

    run_on_all_ranks(open_all)
    return found, computed


def _file(array: np.ndarray) -> str:
    return str(array.filename)  # type: ignore[attr-defined]


def _fill_missing(
    cache: ArrayCache,
    crew: NodeGroup,
    blanks: Mapping[Place, ArraySpec],
    fill: Callable[[Mapping[Place, np.ndarray], NodeGroup], None],
    limit: int | None,
) -> tuple[bool, bool]:
    """Make those of ``blanks`` that are missing, unless another holds the lock.

    Returns:
        Whether one was made; and, of the first process of a node alone, whether another held the lock.
    """
    begun: dict[Place, np.ndarray] = {}
    missed = False
    with ExitStack() as stack:

        def begin() -> None:
            nonlocal missed
            keys = [blank.key for blank in blanks.values()]
            try:
                # One process may wait. Of several, the other nodes' wait for this one, and one of them may have the
                # lock: without it this one goes through what all do together, and makes nothing.
                stack.enter_context(
                    cache.lock(array_key(keys=keys)).acquire(timeout=-1 if world_size() == 1 else _LOCK_SECONDS)
                )
            except Timeout:
                missed = True
                return
            missing = {place: blank for place, blank in blanks.items() if cache.open(blank.key) is None}
            if not missing:
                stack.close()  # the next node finds them as well, at once
                return
            if limit is not None:
                cache.make_room(limit - sum(blank.size for blank in missing.values()), set(keys))
            for place, blank in missing.items():
                create = cache.create(blank.key, blank.shape, np.dtype(blank.dtype), blank.about)
                begun[place] = stack.enter_context(create)

        run_on_all_ranks(begin if crew.is_leader and blanks else _nothing)
        files = crew.broadcast_from_leader({place: _file(array) for place, array in begun.items()})

        def fill_part() -> None:
            arrays = (
                begun if crew.is_leader else {place: np.load(file, mmap_mode="r+") for place, file in files.items()}
            )
            fill(arrays, crew)
            for array in arrays.values():
                array.flush()  # type: ignore[union-attr]

        run_on_all_ranks(fill_part if files else _nothing)
        run_on_all_ranks(stack.close)
    return bool(files), missed


def _nothing() -> None:
    pass
