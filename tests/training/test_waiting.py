"""How long processes wait for each other: within a step as long as is set, beside the steps as long as one works."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from plans import plan_of
from tiny import TINY

from effnet_ft.training.trainer import build_trainer

LATE = """
import sys, time
sys.path.insert(0, {folder!r})
import forked
import torch
import torch.distributed as dist
from effnet_ft.distributed import collectives
from effnet_ft.training import final_evaluation, module
from effnet_ft.training.lr_finder import finder
from effnet_ft.activations.store import ActivationStore

def late(owner, name, seconds):
    work = getattr(owner, name)

    def working(*arguments, **named):
        if collectives.rank() == 0:
            time.sleep(seconds)
        return work(*arguments, **named)

    setattr(owner, name, working)

for owner, name in {late}:
    late(owner, name, {seconds})
print("exit codes", forked.train(None, sys.argv[1:]))
"""
PATIENCE = 6  # seconds


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_find_unused_parameters_true"])
def test_what_is_set_reaches_the_strategy(strategy: str) -> None:
    settings = ["trainer.devices=2", f"trainer.strategy={strategy}", "trainer.timeout_minutes=0.5"]
    built = build_trainer(plan_of("trainer.accelerator=cpu", *settings).trainer).strategy
    assert built._timeout == timedelta(seconds=30)  # type: ignore[attr-defined]


def train(late: str, seconds: int, flowers: Path, tmp_path: Path) -> tuple[str, str]:
    """Train by two processes, the first one late with all of ``late``; return their exit codes and what they told."""
    script = tmp_path / "script.py"
    script.write_text(LATE.format(folder=str(Path(__file__).parent), late=late, seconds=seconds))
    settings = [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", "phases=[{train: head, epochs: 2, lr: auto}]"]
    settings += [*TINY, "trainer.devices=2", f"trainer.timeout_minutes={PATIENCE / 60}"]
    command = [sys.executable, str(script), "folder", *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    return done.stdout.rpartition("exit codes ")[2].strip(), done.stderr


@pytest.mark.slow
def test_work_that_one_does_for_all_is_waited_for(flowers: Path, tmp_path: Path) -> None:
    """Filling the store, searching the learning rate, measuring: each takes longer than a step may."""
    late = "[(ActivationStore, '_compute'), (finder, 'search_head_grid'), (final_evaluation, 'measure')]"
    codes, told = train(late, PATIENCE + 2, flowers, tmp_path)
    assert json.loads(codes) == [0, 0], told


@pytest.mark.slow
def test_a_process_that_keeps_the_others_waiting_within_a_step_is_given_up(flowers: Path, tmp_path: Path) -> None:
    codes, told = train("[(module.FineTuner, 'training_step')]", 3 * PATIENCE, flowers, tmp_path)
    assert json.loads(codes) == [2, 2], told
    assert "another process of this training did not answer in time" in told and "Traceback" not in told
