"""Where the lock of a run lies; what it keeps out is in ``training/test_resume.py``."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from effnet_ft.errors import RunLockedError
from effnet_ft.runs.run_folder import Run
from effnet_ft.runs.run_lock import inner_lock_path, is_locked, lock_path, run_lock
from effnet_ft.training.setup import require_free_folder


def test_where_no_lock_can_be_made_beside_the_folder_it_lies_within(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 252)  # with the dot and the ending, no name that a disk takes
    folder.mkdir()
    for _ in range(2):
        with run_lock(folder):
            assert list(folder.iterdir()) == [inner_lock_path(folder)]
            require_free_folder(Run(folder), resume=False, main=True)
            assert is_locked(folder, main=True)
            with pytest.raises(RunLockedError, match="another training is running"), run_lock(folder):
                pass
            assert is_locked(folder, main=True), "whoever was refused took the lock away"
        assert not is_locked(folder, main=True)
        assert list(folder.iterdir()) == []


def test_who_may_write_beside_the_folder_sees_the_lock_of_one_who_may_not(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    refused = pytest.raises(RunLockedError, match="another training is running")
    with FileLock(inner_lock_path(folder)), refused, run_lock(folder):
        pass
    with run_lock(folder):
        assert is_locked(folder, main=True)


def test_a_lock_that_a_killed_process_left_within_is_no_run(tmp_path: Path) -> None:
    inner_lock_path(tmp_path).touch()
    assert not is_locked(tmp_path, main=True)
    require_free_folder(Run(tmp_path), resume=False, main=True)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_trains_and_keeps_no_file(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in a lock's stead would keep out a job that begins again on another machine."""

    def flock(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    folder = tmp_path / "run"
    folder.mkdir()
    with run_lock(folder):
        assert not lock_path(folder).exists() and list(folder.iterdir()) == []
        assert not is_locked(folder, main=True)
