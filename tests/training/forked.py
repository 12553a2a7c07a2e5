"""Trains by two processes, time after time, each time forked from this one, which has loaded the libraries once.

``forked.py ENDINGS key=value ...``: ENDINGS is JSON, for each time a list of what ends it or null for nothing: phase,
epoch and batch from 0; the rank, or null for both at once; the signal's number. Prints each time's exit codes as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from effnet_ft.cli import main
from effnet_ft.planning import estimate
from effnet_ft.planning.speed import Speed
from effnet_ft.training import fit  # loaded here, once for all times
from effnet_ft.training.module import FineTuner

Ending = tuple[int, int, int, int | None, int]

PROCESSES = 2


def end_at(ending: Ending, rank: int) -> None:
    """Send the signal before the step at the ending's place."""
    *place, ended, number = ending
    step = FineTuner.training_step

    def training_step(self: FineTuner, batch: Any, batch_idx: int) -> Any:
        if [self.phase, self.current_epoch, batch_idx] == place:
            if ended is None and rank == 0:
                os.killpg(0, number)
            if ended == rank:
                os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    FineTuner.training_step = training_step  # type: ignore[method-assign]


def one_of_them(rank: int, port: int, ending: Ending | None, arguments: list[str]) -> None:
    """Train as torchrun would have this process do it, and end."""
    known = {"LOCAL_RANK": rank, "RANK": rank, "LOCAL_WORLD_SIZE": PROCESSES, "WORLD_SIZE": PROCESSES}
    known |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "forked"}
    os.environ.update({name: str(value) for name, value in known.items()})
    rank_zero_only.rank = rank  # as Lightning reads it from the environment when it is imported
    if ending:
        end_at(ending, rank)
    code = 1
    try:
        code = main(["train", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def train(ending: Ending | None, arguments: list[str]) -> list[int]:
    """Return the exit codes of the processes; that of one which a signal ended is its number below 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    numbers = []
    for rank in range(PROCESSES):
        if (number := os.fork()) == 0:
            os.setpgid(0, numbers[0] if numbers else 0)
            one_of_them(rank, port, ending, arguments)
        os.setpgid(number, (numbers or [number])[0])
        numbers.append(number)
    return [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in numbers]


if __name__ == "__main__":
    assert fit
    estimate.measured_speed = lambda *_: Speed(1e-3, 1e-3, 1e-3, 1e6)  # which takes its time
    signal.alarm(300)
    endings, *arguments = sys.argv[1:]
    print("exit codes", json.dumps([train(ending, arguments) for ending in json.loads(endings)]))
