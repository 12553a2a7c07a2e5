"""Runs of two processes that are killed and resumed end as one that nothing interrupted, bit for bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from same_runs import assert_same
from tiny import TINY

from effnet_ft.data.demo_flowers import draw_flowers
from effnet_ft.runs.run_folder import Run

SCRIPT = Path(__file__).parents[1] / "forked.py"
PHASES = (
    "phases=[{train: head, epochs: 2, lr: 1e-2, sampling: balanced}, {train: stage7, epochs: 2, lr: 1e-3, ema: 0.9}, "
    "{train: all, epochs: 2, lr: 1e-3, accumulate: 2}]"
)
SETTINGS = (*TINY, "data.image_size=32", "data.batch_size=2", "trainer.devices=2", "trainer.checkpoint_minutes=0")
KILL, TERM = -signal.SIGKILL, 128 + signal.SIGTERM

# After the tenth of the 12 steps of an epoch a checkpoint is written: whoever ends in the next goes on from there. Both
# processes, the second, the first; the other of one that is killed ends with exit code 2.
ENDINGS = {
    (0, 0, 0, None, signal.SIGKILL): [KILL, KILL],
    (1, 0, 10, 1, signal.SIGKILL): [2, KILL],
    (1, 1, 4, 0, signal.SIGTERM): [TERM, 0],
    (1, 1, 10, 0, signal.SIGKILL): [KILL, 2],
    (2, 0, 4, 1, signal.SIGTERM): [TERM, 0],
    (2, 0, 10, None, signal.SIGKILL): [KILL, KILL],
    (2, 1, 10, 1, signal.SIGKILL): [2, KILL],
}


def train(endings: list[object], data: Path, run: Run) -> list[list[int]]:
    """Begin or go on once for each of ``endings``; return the processes' exit codes."""
    command = [sys.executable, str(SCRIPT), json.dumps(endings), "folder", PHASES, *SETTINGS]
    command += [f"data.root={data}", f"run_dir={run.folder}", "resume=auto"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert "exit codes" in done.stdout, done.stderr
    codes: list[list[int]] = json.loads(done.stdout.rpartition("exit codes")[2])
    return codes


@pytest.mark.slow
def test_two_processes_that_are_killed_end_as_two_that_were_not(tmp_path: Path) -> None:
    data = draw_flowers(tmp_path / "flowers", per_class=23, size=32, species=("daisy", "lavender", "tulip"))
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    assert train([None], data, whole) == [[0, 0]]
    assert train([*ENDINGS, None], data, killed) == [*ENDINGS.values(), [0, 0]]
    assert killed.log.read_text().count("after 10 batches") == 6, "not all went on within an epoch"
    assert_same(killed, whole)
