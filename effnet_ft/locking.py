"""One training at a time in a run folder. Free of torch.

The lock is a file beside the run folder, so that nothing is added to the run. What counts is the system's lock on it,
which ends with the process that holds it: a file that a killed process left means nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from effnet_ft.errors import RecipeError

_PATIENCE = 1.0
"""Seconds to wait for a lock: another process that only asks whether it is taken holds it for a moment."""


def lock_of(folder: Path) -> Path:
    """Return the lock file of the run in ``folder``."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other trainings out of ``folder`` within the block.

    Where no lock can be made, as beside a folder whose parent is not ours to write to, there is none.

    Raises:
        RecipeError: where another training is in there.
    """
    path = lock_of(folder)
    made = [parent for parent in path.parents if not parent.exists()]
    lock = FileLock(path)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_PATIENCE, poll_interval=0.05)
        except Timeout:
            raise _taken(folder) from None
        if _launch():
            path.write_text(_launch())
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):
                path.unlink(missing_ok=True)  # before it is let go: whoever comes next makes a file of its own
            lock.release()
        for parent in made:
            with suppress(OSError):  # the run is in there
                parent.rmdir()


def is_held(folder: Path, main: bool) -> bool:
    """Return whether a training other than this one is in ``folder``.

    Args:
        folder: of the run.
        main: this is the process that takes the lock; the others of its launch find it taken, which is as it should be.
    """
    path = lock_of(folder)
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with suppress(OSError):
            return main or not _launch() or path.read_text() != _launch()
    except OSError:
        return False
    lock.release()
    return False


def _taken(folder: Path) -> RecipeError:
    return RecipeError(f"run_dir is '{folder}', where another training is at work: wait for it, or name another folder")


def _launch() -> str:
    """Return what the processes that torchrun or SLURM started together share, an empty text without either."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")
    return " ".join(os.environ[name] for name in names if name in os.environ)
