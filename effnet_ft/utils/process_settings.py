"""Process-wide settings, for the command line only: a library must not change its user's process."""

import ctypes
import os
import signal
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_PR_SET_PDEATHSIG = 1  # Linux's sys/prctl.h


def tune_process() -> None:
    """Set how OpenMP threads wait and how memory is allocated; call it before torch is imported.

    OpenMP threads spin only briefly before they sleep: with the default long spin, every layer waits for the scheduler
    whenever another program or the data loading takes a core. glibc keeps freed blocks, which by default it maps and
    zeroes anew for every layer; the process keeps its peak memory until it ends.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if sys.platform.startswith("linux") and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def end_with_parent() -> None:
    """Have Linux kill this process when its parent ends, however that ends; nothing on other systems."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
