"""Ends all processes of a training when one of them dies, so that the others do not wait for it."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import Popen
from typing import Any

from pytorch_lightning.strategies import Strategy

from effnet_ft.distributed import collectives
from effnet_ft.errors import EXIT_INTERRUPTED, EXIT_USER_FAULT, MachineError
from effnet_ft.training.recovery.signals import SIGNALS
from effnet_ft.utils.text import escape_control_characters, shorten

_GRACE_SECONDS = 15.0  # for the other processes to end by themselves and report why
_GRACE_AT_THE_START = 3.0  # before the process group exists: who waits there has nothing to report

_LOST = re.compile(
    r"Connection (?:closed|reset) by (?:remote )?peer|remote process exited|Broken pipe|gloo.*(?:peer|timeout)"
    r"|(?i:NCCL.*(?:remote|peer(?! access)|abort|closed))"
)
"""Messages of gloo and NCCL when a peer is gone."""


@contextmanager
def process_watchdog() -> Iterator[Callable[[Strategy], None]]:
    """End the processes launched by this one if one of them dies or the block fails.

    It does nothing under torchrun and SLURM, which launch the processes and end them themselves.

    Yields:
        A function that starts watching, once the strategy given to it has launched the processes.
    """
    launched: list[Popen[Any]] = []
    finished = threading.Event()

    def start(strategy: Strategy) -> None:
        launched.extend(getattr(strategy.launcher, "procs", []))
        if launched:
            for thread in threading.enumerate():
                if thread.name == "child-process-observer":  # Lightning's, which kills this process without a message
                    thread._finished = True  # type: ignore[attr-defined]
            threading.Thread(target=_watch, args=(launched, finished), name="watch", daemon=True).start()

    try:
        yield start
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            _wait(launched, all)  # they have received the signal too
        elif lost_process_error(error):
            _wait(launched, any)
            _report(launched)
        finished.set()  # before they are killed, which the watching thread would report as a failure
        _kill(launched)
        raise
    finally:
        finished.set()


def lost_process_error(error: BaseException) -> MachineError | None:
    """Return a message for a communication error caused by a lost process; None for other errors."""
    if collectives.world_size() == 1 or not isinstance(error, RuntimeError) or not _LOST.search(str(error)):
        return None
    first = escape_control_characters(shorten(str(error).strip().split("\n")[0]))
    return MachineError(f"another process of this training has died; its own message says why ({first})")


def _watch(launched: Sequence[Popen[Any]], finished: threading.Event) -> None:
    """Wait until a process fails, then until this one ends by itself, and end it if it does not."""
    while not (failed := [code for code in _codes(launched) if code or (code == 0 and collectives.world_size() == 1)]):
        if all(code == 0 for code in _codes(launched)) or finished.wait(0.5):
            return
    if finished.wait(_GRACE_SECONDS if collectives.world_size() > 1 else _GRACE_AT_THE_START):
        return
    _report(launched)
    _kill(launched)
    os._exit(_exit_code(failed[0]))


def _exit_code(other: int) -> int:
    """Return this process's exit code after another ended with ``other``, which is 0 if it was interrupted."""
    if other == 0:
        return EXIT_INTERRUPTED
    if -other in SIGNALS:  # received before the other process could handle it, and meant for all
        return 128 - other
    return other if other > 0 else EXIT_USER_FAULT


def _codes(launched: Sequence[Popen[Any]]) -> list[int | None]:
    return [process.poll() for process in launched]


def _wait(launched: Sequence[Popen[Any]], enough: Callable[[list[bool]], bool]) -> None:
    end = time.monotonic() + _GRACE_SECONDS
    while launched and time.monotonic() < end and not enough([code is not None for code in _codes(launched)]):
        time.sleep(0.1)


def _report(launched: Sequence[Popen[Any]]) -> None:
    """Print how processes failed that may have been killed before they could."""
    for rank, code in enumerate(_codes(launched), 1):
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
            print(f"effnet-ft: process {rank} of this training {how}: ending the others", file=sys.stderr)
    sys.stderr.flush()


def _kill(launched: Sequence[Popen[Any]]) -> None:
    for process in launched:
        if process.poll() is None:
            process.kill()  # processes that wait for another one do not react to other signals
