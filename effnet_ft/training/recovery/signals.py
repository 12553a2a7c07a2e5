"""Stop signals: while a training runs, they take effect after its step and a checkpoint; otherwise at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from effnet_ft.errors import Interrupted

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Sent by Ctrl-C; by SLURM, spot machines and ``kill``; and by SLURM's ``--signal=USR1@90``."""


@dataclass
class StopSignal:
    """Whether a signal asked the program to stop."""

    deferring: bool = False  # whether to record signals instead of raising `Interrupted` at once
    received: int = 0  # the signal recorded, 0 for none

    def listen(self) -> None:
        """Install the handlers, again after a library has installed its own; signals reach the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.deferring:
            raise Interrupted(number)
        if not self.received:
            self.received = number
            # Unbuffered, as Python's buffers may be in the middle of another write.
            os.write(2, b"\neffnet-ft: stopping after this step, or after the validation if that is running\n")
        elif number == signal.SIGINT:  # a second Ctrl-C; schedulers send SIGTERM several times
            raise Interrupted(number)


@contextmanager
def catch_signals() -> Iterator[StopSignal]:
    """Install the signal handlers within the block."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop = StopSignal()
    stop.listen()
    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
