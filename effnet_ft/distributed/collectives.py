"""Collectives of Python objects and errors among the processes of a run; without DDP, a world of one.

They use a gloo group of their own with a long timeout: ranks may wait for another's work for longer than NCCL allows.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch.distributed as dist

from effnet_ft.errors import Interrupted, UserError

if TYPE_CHECKING:
    from pytorch_lightning.strategies import Strategy

Value = TypeVar("Value")

_TIMEOUT = timedelta(days=1)
_groups: dict[str, Any] = {}


def connect(strategy: Strategy, started: Callable[[Strategy], None]) -> None:
    """Launch the other ranks, unless torchrun or SLURM has, and join the process group; later trainers reuse it.

    ``started`` is called after the launch, before the ranks wait for each other.
    """
    from pytorch_lightning.strategies import ParallelStrategy

    if not isinstance(strategy, ParallelStrategy):  # a single device
        return
    if strategy.launcher is not None:
        strategy.launcher.launch(lambda: None)
        started(strategy)
    strategy.setup_environment()
    if "control" not in _groups:
        _groups["control"] = dist.new_group(backend="gloo", timeout=_TIMEOUT)


def rank() -> int:
    """Return the rank of this process."""
    return dist.get_rank() if _initialised() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _initialised() else 1


def is_main_process() -> bool:
    """Return whether this is rank 0, which writes and prints; known before the process group exists."""
    from pytorch_lightning.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def all_gather(value: Value) -> list[Value]:
    """Return every rank's value, by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_groups.get("control"))
    return values


def broadcast(value: Value) -> Value:
    """Return the value of rank 0."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_groups.get("control"))
    return values[0]


def raise_on_all_ranks(error: Exception | None) -> None:
    """Raise on every rank the error of the lowest rank that has one; all ranks call this, with None if all went well.

    An error that cannot be pickled becomes a RuntimeError with its text on other ranks.
    """
    errors = all_gather(_picklable(error))
    errors[rank()] = error
    for found in errors:
        if found is not None:
            found.shared = world_size() > 1  # type: ignore[attr-defined]
            raise found


def run_on_all_ranks(work: Callable[[], Value]) -> Value:
    """Run ``work`` on every rank and return its value; re-raise on all ranks if it fails on any."""
    failure: Exception | None = None
    try:
        value = work()
    except Exception as error:
        failure = error
    raise_on_all_ranks(failure)
    return value


@contextmanager
def report_once() -> Iterator[None]:
    """Let only rank 0 report an interruption, or an error that all ranks have raised."""
    try:
        yield
    except (UserError, Interrupted) as error:
        if (isinstance(error, Interrupted) or error.shared) and not is_main_process():
            # At a non-zero exit code the launcher would kill rank 0 before it has printed the message.
            raise SystemExit(0) from None
        raise


def _picklable(error: Exception | None) -> Exception | None:
    with suppress(Exception):  # unpickling calls the class, which may raise anything
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class NodeGroup:
    """The processes of one node that share a folder."""

    ranks: tuple[int, ...] = (0,)  # ascending; the first one leads
    group_rank: int = 0  # of this process within the group

    @classmethod
    def at(cls, folder: Path) -> NodeGroup:
        """Return the ranks on this machine whose ``folder`` is this one, which is made; all ranks call this together.

        Not ranks on another machine that see the folder: two machines cannot write to one memory-mapped file. An
        OSError of one rank is raised on all.
        """
        if world_size() == 1:
            return cls()

        def identify() -> tuple[str, int, int]:
            folder.mkdir(parents=True, exist_ok=True)
            return socket.gethostname(), folder.stat().st_dev, folder.stat().st_ino

        identities = all_gather(run_on_all_ranks(identify))
        ranks = tuple(number for number, identity in enumerate(identities) if identity == identities[rank()])
        return cls(ranks, ranks.index(rank()))

    @property
    def is_leader(self) -> bool:
        """Whether this is the group's first process."""
        return self.group_rank == 0

    def broadcast_from_leader(self, value: Value) -> Value:
        """Return the leader's value; all ranks of the run call this together."""
        return all_gather(value if self.is_leader else None)[self.ranks[0]]  # type: ignore[return-value]

    def share(self, length: int, step: int = 1) -> range:
        """Return this process's share of ``length`` items, starting at a multiple of ``step``."""
        steps = -(-length // step)
        start, end = (steps * index // len(self.ranks) * step for index in (self.group_rank, self.group_rank + 1))
        return range(start, min(end, length))


def rank_slice(length: int) -> range:
    """Return this rank's share of ``length`` items among all ranks."""
    return NodeGroup(tuple(range(world_size())), rank()).share(length)


def external_launch() -> tuple[int, int] | None:
    """Return processes per node and nodes as launched by torchrun or SLURM; None for neither."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return local, world // local
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return None


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()
