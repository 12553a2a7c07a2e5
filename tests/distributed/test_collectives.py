"""How processes divide work and fail together; real ones are in ``training/test_distributed.py``."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import torch

from effnet_ft.distributed import collectives
from effnet_ft.distributed.collectives import NodeGroup
from effnet_ft.errors import DataError


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("step", [1, 8])
def test_shares_are_whole_steps_and_leave_nothing_out(count: int, step: int) -> None:
    for length in range(70):
        shares = [NodeGroup(tuple(range(count)), index).share(length, step) for index in range(count)]
        assert [item for share in shares for item in share] == list(range(length))
        assert all(share.start % step == 0 for share in shares), "images would be computed beside others"


def of(others: list[object], monkeypatch: pytest.MonkeyPatch, rank: int = 0) -> None:
    """Pretend to be one of several ranks; ``others`` are the values of the other ones."""

    def all_gather(value: object) -> list[object]:
        return [*others[:rank], value, *others[rank:]]

    monkeypatch.setattr(collectives, "all_gather", all_gather)
    monkeypatch.setattr(collectives, "world_size", lambda: len(others) + 1)
    monkeypatch.setattr(collectives, "rank", lambda: rank)


def test_processes_that_see_the_folder_from_another_machine_are_another_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collectives.socket, "gethostname", lambda: "here")
    state = tmp_path.stat()
    place = (state.st_dev, state.st_ino)
    monkeypatch.setattr(collectives, "raise_on_all_ranks", lambda error: None)
    of([("there", *place), ("here", *place), ("here", place[0], 0)], monkeypatch, rank=2)
    assert NodeGroup.at(tmp_path) == NodeGroup((1, 2), 1)
    assert not NodeGroup.at(tmp_path).is_leader


@pytest.mark.parametrize(("rank", "expected"), [(0, "own"), (1, "first"), (2, "first")])
def test_the_first_error_is_raised_on_all_ranks(rank: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[object] = [DataError("other"), None] if rank == 0 else [DataError("first"), None]
    of(others, monkeypatch, rank)
    with pytest.raises(DataError, match=expected) as raised:
        collectives.raise_on_all_ranks(DataError("own") if rank != 2 else None)
    assert raised.value.shared


class Unsent(Exception):
    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} has {number}")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), MemoryError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (OSError(errno.ENOSPC, "No space left on device"), OSError),
        (Unsent("b0", 4), RuntimeError),
    ],
)
def test_an_error_is_sent_as_it_is_or_as_its_text(
    error: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another type, a fault of the machine would be reported as a bug."""
    sent: list[Exception | None] = []
    monkeypatch.setattr(collectives, "all_gather", lambda own: sent.append(own) or [own])
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    with pytest.raises(type(error)) as raised:
        collectives.raise_on_all_ranks(error)
    assert raised.value is error and error.shared  # type: ignore[attr-defined]
    arrived = pickle.loads(pickle.dumps(sent[0]))
    assert type(arrived) is expected and str(error) in str(arrived)


def test_without_a_process_group_an_error_is_not_shared() -> None:
    """Otherwise rank 0, which does not know of it, would have to report it."""
    with pytest.raises(DataError) as raised:
        collectives.raise_on_all_ranks(DataError("here alone"))
    assert not raised.value.shared


def test_no_error_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    of([None, None], monkeypatch)
    collectives.raise_on_all_ranks(None)


def test_an_error_of_all_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = DataError("of all")
    shared.shared = True
    monkeypatch.setattr(collectives, "is_main_process", lambda: False)
    with pytest.raises(SystemExit) as ended, collectives.report_once():
        raise shared
    assert ended.value.code == 0
    with pytest.raises(DataError), collectives.report_once():
        raise DataError("of this process alone")
    monkeypatch.setattr(collectives, "is_main_process", lambda: True)
    with pytest.raises(DataError), collectives.report_once():
        raise shared


def test_the_launcher_determines_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert collectives.external_launch() is None
    with monkeypatch.context() as slurm:
        for name, value in {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}.items():
            slurm.setenv(name, value)
        assert collectives.external_launch() == (4, 2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}.items():
        monkeypatch.setenv(name, value)
    assert collectives.external_launch() == (2, 3)
