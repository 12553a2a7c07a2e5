"""Processes that train together end together: where one dies the others are not left waiting for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.strategies import Strategy

from effnet_ft.distributed import collectives
from effnet_ft.errors import EXIT_INTERRUPTED, EXIT_USER_FAULT, MachineError
from effnet_ft.training.recovery.signals import SIGNALS
from effnet_ft.utils.text import escape_control_characters, shorten

_GRACE_SECONDS = 15.0
"""In which the other processes may end by themselves and say why, before they are ended."""

_GRACE_AT_THE_START = 3.0
"""The same before the processes have met: who waits for another there has nothing to say, and hears no signal."""

_LOST = re.compile(
    r"Connection (?:closed|reset) by (?:remote )?peer|remote process exited|Broken pipe|gloo.*(?:peer|timeout)"
    r"|(?i:NCCL.*(?:remote|peer(?! access)|abort|closed))"
)
"""What the libraries say where a peer is gone; other errors of theirs keep their own words."""


@contextmanager
def process_watchdog() -> Iterator[Callable[[Strategy], None]]:
    """End the processes that this one has launched when one of them dies, or when the block fails.

    Under torchrun and SLURM, which launch the processes themselves, they do so, and this does nothing.

    Yields:
        What takes the strategy that has launched the processes, and watches them from then on.
    """
    launched: list[subprocess.Popen[Any]] = []
    over = threading.Event()

    def watch(strategy: Strategy) -> None:
        launched.extend(getattr(strategy.launcher, "procs", []))
        if launched:
            _retire_lightnings_watch()
            threading.Thread(target=_watch, args=(launched, over), name="watch", daemon=True).start()

    try:
        yield watch
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            _wait(launched, all)  # the signal has reached them too
        elif lost_process_error(error):
            _wait(launched, any)
            _tell(launched)
        over.set()  # before the others are killed: the watch would take it for a failure, and end the caller's program
        _kill(launched)
        raise
    finally:
        over.set()


def lost_process_error(error: BaseException) -> MachineError | None:
    """Return what an error in the communication of processes means; None where it is another error."""
    if collectives.world_size() == 1 or not isinstance(error, RuntimeError) or not _LOST.search(str(error)):
        return None
    first = escape_control_characters(shorten(str(error).strip().split("\n")[0]))
    return MachineError(
        f"another process of this training has ended, and this one with it: its own message says why ({first})"
    )


def _retire_lightnings_watch() -> None:
    """Stop Lightning's own watch: it kills this process without a word, whatever it is about to say."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._finished = True  # type: ignore[attr-defined]


def _watch(launched: Sequence[subprocess.Popen[Any]], over: threading.Event) -> None:
    """Wait for the first process that fails; then for this one to end by itself, and end it where it does not.

    Args:
        launched: the processes.
        over: set when this one trains no more: there is nothing to end then.
    """
    while not (failed := [code for code in _codes(launched) if code or (code == 0 and not _have_met())]):
        if all(code == 0 for code in _codes(launched)):
            return
        if over.wait(0.5):
            return
    if over.wait(_GRACE_SECONDS if _have_met() else _GRACE_AT_THE_START):
        return
    _tell(launched)
    _kill(launched)
    os._exit(_exit_code(failed[0]))


def _have_met() -> bool:
    return collectives.world_size() > 1


def _exit_code(other: int) -> int:
    """Return what this process ends with where another one did with ``other``; 0 of a process that was interrupted."""
    if other == 0:
        return EXIT_INTERRUPTED
    if -other in SIGNALS:  # it came before the other one could listen, and was meant for all
        return 128 - other
    return other if other > 0 else EXIT_USER_FAULT


def _codes(launched: Sequence[subprocess.Popen[Any]]) -> list[int | None]:
    return [process.poll() for process in launched]


def _wait(launched: Sequence[subprocess.Popen[Any]], enough: Callable[[list[bool]], bool]) -> None:
    end = time.monotonic() + _GRACE_SECONDS
    while launched and time.monotonic() < end and not enough([code is not None for code in _codes(launched)]):
        time.sleep(0.1)


def _tell(launched: Sequence[subprocess.Popen[Any]]) -> None:
    """Say how others ended, who could not say it themselves where they were killed."""
    for rank, code in enumerate(_codes(launched), 1):
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            print(f"effnet-ft: process {rank} of this training {how}, and the others end with it", file=sys.stderr)
    sys.stderr.flush()


def _kill(launched: Sequence[subprocess.Popen[Any]]) -> None:
    for process in launched:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)  # a process that waits for another answers to nothing less
