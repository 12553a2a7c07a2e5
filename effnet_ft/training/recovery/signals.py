"""Signals to end: a training finishes its step and writes a checkpoint first; anything else stops at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from effnet_ft.errors import Interrupted

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""What a terminal, what SLURM, spot machines and ``kill``, and what SLURM on ``--signal=USR1@90`` send to end a job."""


class StopSignal:
    """Whether the user or the machine asked the program to end.

    Attributes:
        deferring: the one who set it looks at :attr:`received` soon, and stops where nothing is lost.
        received: the signal that came while it was set, 0 for none.
    """

    def __init__(self) -> None:
        self.deferring = False
        self.received = 0

    def listen(self) -> None:
        """Take the signals; to be called again after a library has put its own handlers in place."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.deferring:
            raise Interrupted(number)
        if not self.received:
            self.received = number
            # Written past Python's buffers, which may be in the middle of another write.
            os.write(2, b"\neffnet-ft: stopping after this step, or after the validation that runs\n")
        elif number == signal.SIGINT:  # schedulers send SIGTERM several times; who presses twice is in a hurry
            raise Interrupted(number)


@contextmanager
def catch_signals() -> Iterator[StopSignal]:
    """Listen to the signals while the block runs; outside of the main thread, where none arrive, do nothing."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop = StopSignal()
    stop.listen()
    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
