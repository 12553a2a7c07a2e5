"""How a program of ours uses the machine. For the command line only: a library leaves the process of its user alone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4

# From Linux's sys/prctl.h.
_PR_SET_PDEATHSIG = 1


def tune_process() -> None:
    """Set what must be set before torch is loaded: how threads wait, and how memory is asked for."""
    wait_with_short_spins()
    keep_freed_memory()


def wait_with_short_spins() -> None:
    """Let OpenMP's threads spin shortly while they wait for each other, then sleep; the user's environment has its way.

    By default they spin for a long time. Where other programs or the data loading take a core now and then, as on any
    laptop, every layer would then wait for the scheduler.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next step instead of returning them to the system.

    A network on the CPU frees and asks again for the same large blocks in every layer; by default each of them is
    mapped anew and its pages are zeroed. The memory of the largest step stays taken until the process ends. Does
    nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def end_with_parent() -> None:
    """Have the system kill this process when the one that launched it ends, however that ends. Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
