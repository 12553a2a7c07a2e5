"""A lock that allows one training at a time in a run folder. Free of torch.

The lock file is beside the run folder, or in it if its parent is not writable, as in a container that mounts the run
folder alone. It is locked by the system, which releases it when the process ends: a file left by a killed process does
not count.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from effnet_ft.errors import RunLockedError

INNER_LOCK_NAME = "training.lock"
"""Name of the lock file in a run folder whose parent is not writable."""

_system_lock = partial(FileLock, fallback_to_soft=False)  # a soft lock would outlive a killed process
_TIMEOUT = 1.0  # seconds to wait for a lock, which `is_locked` in another process takes for a moment


def lock_path(folder: Path) -> Path:
    """Return the lock file beside ``folder``."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.lock")


def inner_lock_path(folder: Path) -> Path:
    """Return the lock file in ``folder``."""
    return folder.resolve() / INNER_LOCK_NAME


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock ``folder`` within the block, if the file system has locks; a :class:`RunLockedError` if it is in use."""
    parents = lock_path(folder).parents
    made = [parent for parent in parents if not parent.exists()]
    with suppress(OSError):
        parents[0].mkdir(parents=True, exist_ok=True)
    lock = _acquire(folder)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                os.unlink(lock.lock_file)  # before its release, so that it is not another training's by then
            lock.release()
        for parent in made:
            with suppress(OSError):  # not empty: the run is in it
                parent.rmdir()


def is_locked(folder: Path, main: bool) -> bool:
    """Return whether another training is running in ``folder``; if not ``main``, one of the same launch is no other."""
    return any(_is_taken(path, main) for path in (lock_path(folder), inner_lock_path(folder)))


def _acquire(folder: Path) -> FileLock | None:
    """Return the acquired lock of ``folder``; None if the file system has none."""
    locked = RunLockedError(f"run_dir is '{folder}', where another training is running: wait, or name another folder")
    inner = [inner_lock_path(folder)] if folder.is_dir() else []
    if any(_is_taken(path, main=True) for path in inner):  # by a training that cannot write to the parent
        raise locked
    for path in (lock_path(folder), *inner):
        lock = _system_lock(path)
        try:
            lock.acquire(timeout=_TIMEOUT, poll_interval=0.05)
        except Timeout:
            raise locked from None
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):  # the file system has no locks
                with suppress(OSError):
                    path.unlink()
            continue
        if _launch():
            with suppress(OSError):
                path.write_text(_launch())
        return lock
    return None


def _is_taken(path: Path, main: bool) -> bool:
    if not os.path.isfile(path):  # pathlib's raises an error if the name is too long for the file system
        return False
    lock = _system_lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with suppress(OSError):
            return main or not _launch() or path.read_text() != _launch()
    except OSError:
        return False
    lock.release()
    return False


def _launch() -> str:
    """Return what identifies a launch by torchrun or SLURM; an empty text for neither."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")
    return " ".join(os.environ[name] for name in names if name in os.environ)
