"""The processes of one run: who they are and how they agree. A process alone is the first of one.

What is agreed on here travels beside the gradients, through a group of its own over the processors' memory: it waits as
long as one of the processes works, where a graphics card's group would give up.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch.distributed as dist

from effnet_ft.errors import Interrupted, UserError

if TYPE_CHECKING:
    from pytorch_lightning.strategies import Strategy

Value = TypeVar("Value")

_PATIENCE = timedelta(days=1)
_groups: dict[str, Any] = {}


def connect(strategy: Strategy, started: Callable[[Strategy], None] = lambda strategy: None) -> None:
    """Start the run's other processes where nobody has, and meet them; the trainers that follow find them here.

    Args:
        strategy: of the first trainer.
        started: called when they are started, before they are waited for.
    """
    from pytorch_lightning.strategies import ParallelStrategy

    if not isinstance(strategy, ParallelStrategy):  # one device: there are no others
        return
    if strategy.launcher is not None:
        strategy.launcher.launch(lambda: None)
        started(strategy)
    strategy.setup_environment()
    if "control" not in _groups:
        _groups["control"] = dist.new_group(backend="gloo", timeout=_PATIENCE)


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if _several() else 1


def is_main_process() -> bool:
    """Return whether this is the process that writes and speaks; known before the processes have met, too."""
    from pytorch_lightning.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def all_gather(value: Value) -> list[Value]:
    """Return what every process gives, in the order of their numbers."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_groups.get("control"))
    return values


def broadcast(value: Value) -> Value:
    """Return what the first process gives."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_groups.get("control"))
    return values[0]


def raise_on_all_ranks(error: Exception | None) -> None:
    """Raise in every process what one of them met; each calls this where it could have failed, None if it did not.

    Raises:
        Exception: the first process's, or that of the next which failed.
    """
    errors = all_gather(error if error is None else _told(error))
    first = next((number for number, found in enumerate(errors) if found is not None), None)
    if first is None:
        return
    found = error if first == rank() else errors[first]
    assert found is not None
    found.shared = world_size() > 1  # type: ignore[attr-defined]
    raise found


def run_on_all_ranks(work: Callable[[], Value]) -> Value:
    """Return what ``work`` gives; it fails in every process where it fails in one."""
    failure: Exception | None = None
    try:
        value = work()
    except Exception as error:
        failure = error
    raise_on_all_ranks(failure)
    return value


@contextmanager
def report_once() -> Iterator[None]:
    """Let the first process alone tell of an error that all have raised together."""
    try:
        yield
    except UserError as error:
        if error.shared and not is_main_process():
            # A failure's code here would have this process's launcher kill the first one before it has told.
            raise SystemExit(0) from None
        raise
    except Interrupted:
        if not is_main_process():  # likewise: the first one tells how to go on
            raise SystemExit(0) from None
        raise


def _told(error: Exception) -> Exception:
    """Return ``error`` where it arrives as it is sent, else its words."""
    try:
        arrives = type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # classes with arguments of their own raise many kinds
        arrives = False
    return error if arrives else RuntimeError(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class NodeGroup:
    """The processes that see the same folder: those of a node.

    Attributes:
        ranks: their numbers, ascending; the first of them leads.
        place: of this process among them.
    """

    ranks: tuple[int, ...] = (0,)
    place: int = 0

    @classmethod
    def at(cls, folder: Path) -> NodeGroup:
        """Return the processes of this machine whose ``folder`` is the same; all processes call this together.

        Those of another machine are not among them, even where it sees the folder: two machines cannot write into one
        mapped file.

        Raises:
            OSError: in all processes, where one cannot make the folder.
        """
        if world_size() == 1:
            return cls()
        failure: OSError | None = None
        identity = (socket.gethostname(), 0, 0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            identity = (identity[0], folder.stat().st_dev, folder.stat().st_ino)
        except OSError as error:
            failure = error
        raise_on_all_ranks(failure)
        identities = all_gather(identity)
        ranks = tuple(number for number, identity in enumerate(identities) if identity == identities[rank()])
        return cls(ranks, ranks.index(rank()))

    @property
    def is_leader(self) -> bool:
        """Whether this process is the first of them."""
        return self.place == 0

    def broadcast_from_leader(self, value: Value) -> Value:
        """Return what the first of them gives; all processes call this together."""
        return all_gather(value if self.is_leader else None)[self.ranks[0]]  # type: ignore[return-value]

    def share(self, length: int, step: int = 1) -> range:
        """Return this process's part of ``length`` items, in whole steps of ``step`` but for the last of all."""
        steps = -(-length // step)
        start, end = (steps * place // len(self.ranks) * step for place in (self.place, self.place + 1))
        return range(start, min(end, length))


def rank_slice(length: int) -> range:
    """Return this process's part of ``length`` items among all processes."""
    return NodeGroup(tuple(range(world_size())), rank()).share(length)


def external_launch() -> tuple[int, int] | None:
    """Return processes a node and nodes as torchrun or SLURM started them; None where neither did."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return local, world // local
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return None


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
