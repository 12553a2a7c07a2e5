"""How the process asks the system for memory."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next step instead of returning them to the system.

    A network on the CPU frees and asks again for the same large blocks in every layer; by default each of them is
    mapped anew and its pages are zeroed. Meant for a program's own process: the memory of its largest step stays taken
    until it ends. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
