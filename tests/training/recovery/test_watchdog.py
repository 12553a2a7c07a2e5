"""Of two processes that train together one dies: the other ends with it, and what is told says why."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import TINY

from effnet_ft.training.recovery import watchdog
from effnet_ft.training.recovery.watchdog import lost_process_error, process_watchdog
from effnet_ft.utils.array_cache import FOLDER_VARIABLE

SCRIPT = """
import os, signal, sys
from effnet_ft.cli import main
from effnet_ft.errors import DataError
from effnet_ft.training.module import FineTuner

step, rank = FineTuner.training_step, int(os.environ.get("LOCAL_RANK", 0))

def training_step(self, batch, index):
    if rank == {rank} and index == 1:
        {fate}
    return step(self, batch, index)

FineTuner.training_step = training_step
sys.exit(main(sys.argv[1:]))
"""
FATES = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "its data": "raise DataError('cannot read the image a/1.jpg: it is gone')",
    "a fault of ours": "raise ZeroDivisionError('rank and file')",
}


def end(
    script: Path, flowers: Path, run: Path, *launcher: str, devices: str = "2", apart: bool = False
) -> tuple[int, str, float]:
    """Train by two processes; return the exit code, what was told, and how many seconds the end took.

    With ``apart`` they are a process group of their own.
    """
    phases = "phases=[{train: head, epochs: 2, lr: 1e-2}]"
    settings = [
        "train",
        "folder",
        f"data.root={flowers}",
        f"run_dir={run}",
        phases,
        *TINY,
        f"trainer.devices={devices}",
    ]
    begun = time.monotonic()
    command = [sys.executable, *launcher, str(script), *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, start_new_session=apart)
    return done.returncode, done.stderr, time.monotonic() - begun


def living(script: Path) -> list[str]:
    """Return the processes that still run ``script``."""
    lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if str(script) in line]


TOLD = {
    "killed": "effnet-ft: process 1 of this training was killed by signal 9: ending the others",
    "its data": "effnet-ft: cannot read the image a/1.jpg: it is gone",
    "a fault of ours": "ZeroDivisionError: rank and file",
}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fate", FATES)
def test_one_that_dies_takes_the_other_with_it(fate: str, rank: int, flowers: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(rank=rank, fate=FATES[fate]))
    code, told, seconds = end(script, flowers, tmp_path / "run")
    assert seconds < 60
    if (fate, rank) == ("killed", 0):
        assert code == -signal.SIGKILL
    else:
        assert code == (1 if (fate, rank) == ("a fault of ours", 0) else 2), told
        lost = told.find("another process of this training has died")
        assert told.find(TOLD[fate]) > -1 and (lost == -1 or told.find(TOLD[fate]) < lost), told
    patience = time.monotonic() + 10
    while living(script) and time.monotonic() < patience:
        time.sleep(0.2)
    assert living(script) == []


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["killed", "its data"])
def test_under_torchrun_too(fate: str, flowers: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(rank=1, fate=FATES[fate]))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    code, told, seconds = end(script, flowers, tmp_path / "run", *launcher)
    assert code != 0 and seconds < 60
    assert (TOLD[fate] if fate == "its data" else "Signal 9 (SIGKILL) received") in told
    assert living(script) == []


FILLING = """
import os, sys
import torch
from effnet_ft.cli import main
from effnet_ft.activations.store import ActivationStore

def through(self, *arguments):
    raise {error}

if int(os.environ.get("LOCAL_RANK", 0)) == {rank}:
    ActivationStore._through = through
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("error", ["MemoryError", "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate')"])
def test_memory_that_ends_while_the_store_is_filled_is_told_once(
    error: str, rank: int, flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))  # nothing is stored there yet
    script = tmp_path / "script.py"
    script.write_text(FILLING.format(error=error, rank=rank))
    code, told, seconds = end(script, flowers, tmp_path / "run")
    assert code == 2 and seconds < 60, told
    assert (
        len(re.findall("out of (GPU )?memory:", told)) == 1
        and told.startswith("effnet-ft: ")
        and "Traceback" not in told
    )
    assert living(script) == []


@pytest.mark.parametrize("fails", [True, False])
def test_the_callers_program_outlives_a_training(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes of the others after it, and that they are killed where it fails, ends no program."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(watchdog, "_GRACE_SECONDS", 0.2)
    other = subprocess.Popen(["sleep", "60"])
    strategy: Any = SimpleNamespace(launcher=SimpleNamespace(procs=[other]))
    with suppress(ValueError), process_watchdog() as watch:
        watch(strategy)
        if fails:
            raise ValueError
    other.kill()
    other.wait()
    for thread in threading.enumerate():
        if thread.name == "watch":
            thread.join(5)
    assert ended == []


@pytest.mark.parametrize(
    ("end", "code"), [("exit 0", 130), ("exit 2", 2), ("kill -TERM $$", 143), ("kill -KILL $$", 2)]
)
def test_before_the_processes_have_met_none_waits_for_one_that_ended(
    end: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting to meet takes as long as is set, deaf to signals; a process that is interrupted ends with 0."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(watchdog, "_GRACE_AT_THE_START", 0.1)
    other = subprocess.Popen(["sh", "-c", end])
    strategy: Any = SimpleNamespace(launcher=SimpleNamespace(procs=[other]))
    with process_watchdog() as watch:
        watch(strategy)
        patience = time.monotonic() + 10
        while not ended and time.monotonic() < patience:
            time.sleep(0.05)
    assert ended == [code]


STARTING = """
import os, signal, sys
if "LOCAL_RANK" in os.environ:
    {fate}
from effnet_ft.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fate", "code"), [("os.killpg(0, signal.SIGTERM)", 143), ("os.kill(os.getpid(), signal.SIGKILL)", 2)]
)
def test_one_that_dies_before_they_have_met_takes_the_other_with_it(
    fate: str, code: int, flowers: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(STARTING.format(fate=fate))
    found, told, seconds = end(script, flowers, tmp_path / "run", apart=True)
    assert (found, seconds < 60) == (code, True), told
    assert "interrupted" in told or "process 1 of this training was killed by signal" in told
    assert living(script) == []


GONE = [
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234",
    "NCCL error in: NCCLUtils.hpp:268, remote process exited or there was a network error, NCCL version 2.21.5",
    "NCCL communicator was aborted on rank 1.",
    "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
    "Last error:\nsocketProgress: Connection closed by remote peer node1<4711>",
]
OTHERS = [
    "NCCL error in: ProcessGroupNCCL.cpp:77, unhandled cuda error, NCCL version 2.21.5\nCuda failure 2 'out of memory'",
    "NCCL error in: NCCLUtils.hpp:77, invalid usage, NCCL version 2.21.5\nDuplicate GPU detected: rank 0 and rank 1",
    "ncclUnhandledCudaError: Cuda failure 'peer access is not supported between these two devices'",
    "The expanded size of the tensor (3) must match the existing size (4)",
]


@pytest.mark.parametrize("words", [*GONE, *OTHERS])
def test_only_a_lost_process_is_told_as_one_and_in_the_librarys_words_too(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog.collectives, "world_size", lambda: 2)
    lost = lost_process_error(RuntimeError(words))
    assert (lost is not None) == (words in GONE)
    assert lost is None or words.split("\n")[0] in str(lost)
