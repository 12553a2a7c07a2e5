"""One training at a time in a run folder. Free of torch.

The lock is a file beside the run folder, so that nothing is added to the run; where its parent cannot be written to, as
in a container that is lent the run folder alone, a file in it. What counts is the system's lock on it, which ends with
the process that holds it: a file that a killed process left means nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from effnet_ft.errors import RunLockedError

_PATIENCE = 1.0
"""Seconds to wait for a lock: another process that only asks whether it is taken holds it for a moment."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
"""What a file system without locks says."""

INNER_LOCK_NAME = "training.lock"
"""Name of the lock file in the run folder, where its parent cannot be written to."""


def lock_path(folder: Path) -> Path:
    """Return the lock file beside ``folder``, where its parent can be written to."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.lock")


def inner_lock_path(folder: Path) -> Path:
    """Return the lock file in ``folder``, where its parent cannot be written to."""
    return folder.resolve() / INNER_LOCK_NAME


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep other trainings out of ``folder`` within the block.

    Where no lock can be made, as on a file system that knows none, there is none.

    Raises:
        RunLockedError: where another training is at work there.
    """
    beside = lock_path(folder)
    made = [parent for parent in beside.parents if not parent.exists()]
    with suppress(OSError):
        beside.parent.mkdir(parents=True, exist_ok=True)
    lock = _taken_lock(folder)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                os.unlink(lock.lock_file)  # before it is let go: whoever comes next makes a file of its own
            lock.release()
        for parent in made:
            with suppress(OSError):  # the run is in there
                parent.rmdir()


def is_locked(folder: Path, main: bool) -> bool:
    """Return whether a training other than this one is in ``folder``.

    Args:
        folder: of the run.
        main: this is the process that takes the lock; the others of its launch find it taken, which is as it should be.
    """
    return any(_is_taken(path, main) for path in (lock_path(folder), inner_lock_path(folder)))


def _taken_lock(folder: Path) -> FileLock | None:
    """Return the lock of ``folder``, taken; None where none can be made."""
    within = [inner_lock_path(folder)] if folder.is_dir() else []
    if any(_is_taken(path, main=True) for path in within):  # by one who may not write beside it
        raise _refusal(folder)
    for path in (lock_path(folder), *within):
        lock = _lock(path)
        try:
            lock.acquire(timeout=_PATIENCE, poll_interval=0.05)
        except Timeout:
            raise _refusal(folder) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                with suppress(OSError):
                    path.unlink()  # no one can hold it
            continue
        if _launch():
            with suppress(OSError):
                path.write_text(_launch())
        return lock
    return None


def _is_taken(path: Path, main: bool) -> bool:
    if not os.path.isfile(path):  # unlike pathlib's, it is no error where the name is too long for the disk
        return False
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with suppress(OSError):
            return main or not _launch() or path.read_text() != _launch()
    except OSError:
        return False
    lock.release()
    return False


def _lock(path: Path) -> FileLock:
    """Return the system's lock on ``path``; a mere file in its stead would outlive the process that made it."""
    return FileLock(path, fallback_to_soft=False)


def _refusal(folder: Path) -> RunLockedError:
    return RunLockedError(
        f"run_dir is '{folder}', where another training is at work: wait for it, or name another folder"
    )


def _launch() -> str:
    """Return what the processes that torchrun or SLURM started together share, an empty text without either."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")
    return " ".join(os.environ[name] for name in names if name in os.environ)
