"""Process-wide settings, for the command line only: a library must not change its user's process."""

import ctypes
import io
import os
import signal
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_PR_SET_PDEATHSIG = 1  # Linux's sys/prctl.h


class _Output(io.FileIO):
    """Output of the process that is discarded once its reader has left."""

    def write(self, data: Any) -> int:
        """Write ``data``, or nothing where no one reads any more."""
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(data)


def protect_output() -> None:
    """Let printing never end the program: output may be closed, unread, or in an encoding without some letters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the program began; the next file would take its descriptor
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            utf8 = name == "stdout" and stream.encoding.lower() in ("utf-8", "utf8")
            errors = "surrogateescape" if utf8 else "backslashreplace"  # the bytes of file names that are no UTF-8
            stream.reconfigure(errors=errors)
            lines = stream.line_buffering or stream.write_through  # os._exit flushes nothing
            if stream is getattr(sys, f"__{name}__"):
                raw = io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False))
                setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, errors, line_buffering=lines))


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
