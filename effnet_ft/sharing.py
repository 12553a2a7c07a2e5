"""Arrays of the cache, filled by all processes that share its folder, each its part; published when all are in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from effnet_ft.cache import ArrayCache, array_key
from effnet_ft.processes import Crew, raise_together

Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True)
class Blank:
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


def kept_or_filled(
    cache: ArrayCache,
    plan: Callable[[], Mapping[Place, Blank]],
    fill: Callable[[Mapping[Place, np.ndarray], Crew], None],
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
    crew = Crew.at(cache.folder)
    begun: dict[Place, np.ndarray] = {}
    blanks: dict[Place, Blank] = {}
    with ExitStack() as stack:

        def begin() -> None:
            blanks.update(plan())
            keys = [blank.key for blank in blanks.values()]
            stack.enter_context(cache.lock(array_key(keys=keys)))
            missing = {place: blank for place, blank in blanks.items() if cache.open(blank.key) is None}
            if missing and limit is not None:
                cache.make_room(limit - sum(blank.size for blank in missing.values()), set(keys))
            for place, blank in missing.items():
                create = cache.create(blank.key, blank.shape, np.dtype(blank.dtype), blank.about)
                begun[place] = stack.enter_context(create)

        _together(begin if crew.leads else None)
        blanks, files = crew.from_leader((blanks, {place: _file(array) for place, array in begun.items()}))

        def fill_part() -> None:
            arrays = begun if crew.leads else {place: np.load(file, mmap_mode="r+") for place, file in files.items()}
            fill(arrays, crew)
            for array in arrays.values():
                array.flush()  # type: ignore[union-attr]

        _together(fill_part if files else None)
        _together(stack.close)
    found: dict[Place, np.ndarray] = {}

    def open_all() -> None:
        for place, blank in blanks.items():
            array = cache.open(blank.key, checked=False)
            if array is None:
                raise OSError(f"{blank.about} was removed by another run")
            found[place] = array

    _together(open_all)
    return found, bool(files)


def _file(array: np.ndarray) -> str:
    return str(array.filename)  # type: ignore[attr-defined]


def _together(work: Callable[[], None] | None) -> None:
    """Do ``work``, and fail where one of the processes fails."""
    failure: Exception | None = None
    try:
        if work is not None:
            work()
    except Exception as error:
        failure = error
    raise_together(failure)
