"""Interrupted runs, in every phase and by every kind of end, go on to what they would have been."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.results.run import Run, read_checkpoint
from effnet_ft.training.module import FineTuner

ROOT = Path(__file__).parent.parent.parent

PHASES = (
    "phases=[{train: head, epochs: 2, lr: 1e-2, sampling: balanced}, "
    "{train: stage7, epochs: 2, lr: 1e-3, ema: 0.9}, {train: all, epochs: 2, lr: 1e-3, accumulate: 2, batch_size: 4}]"
)
TIMED = ("seconds", "images_per_second", "data_wait_fraction", "train_seconds")

Place = tuple[int, int, int]
"""Phase, epoch and batch, from 0."""


class Killed(BaseException):
    """Ends a training as a kill would: no one catches it, and nothing is written after it."""


@pytest.fixture(scope="module")
def settings(flowers: Path) -> list[str]:
    return [f"data.root={flowers}", PHASES, *TINY, "trainer.checkpoint_minutes=0"]


@pytest.fixture(scope="module")
def whole(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "folder", *settings, f"run_dir={folder}"]) == 0
    return Run(folder)


def assert_same(run: Run, whole: Run) -> None:
    """Compare all that two runs left, but for their timings."""
    for name in ("last", "best"):
        ours, theirs = (read_checkpoint(getattr(each, name)) for each in (run, whole))
        different = [
            key for key, value in theirs["state_dict"].items() if not torch.equal(value, ours["state_dict"][key])
        ]
        assert different == [], name
        assert (ours["effnet_ft"]["phase"], ours["epoch"]) == (theirs["effnet_ft"]["phase"], theirs["epoch"])
    assert run.predictions.read_text() == whole.predictions.read_text()
    assert untimed(run) == untimed(whole)
    files = [sorted(str(path.relative_to(each.folder)) for path in each.folder.rglob("*")) for each in (run, whole)]
    assert files[0] == files[1]


def untimed(run: Run) -> tuple[list[dict[str, str]], dict[str, Any]]:
    with run.table.open() as file:
        rows = [{name: value for name, value in row.items() if name not in TIMED} for row in csv.DictReader(file)]
    metrics = json.loads(run.metrics.read_text())
    return rows, {name: value for name, value in metrics.items() if name not in TIMED}


def end_at(place: Place, end: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Call ``end`` before the step at ``place``."""
    step = FineTuner.training_step

    def ending(self: FineTuner, batch: Any, batch_idx: int) -> Any:
        if (self.phase, self.current_epoch, batch_idx) == place:
            end()
        return step(self, batch, batch_idx)

    patch.setattr(FineTuner, "training_step", ending)


def kill() -> None:
    raise Killed


PLACES: Sequence[Place] = ((0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 0), (1, 1, 1), (2, 0, 3), (2, 1, 2), (2, 1, 5))


def test_a_run_killed_in_every_phase_ends_as_one_that_was_not(
    settings: list[str], whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*settings, f"run_dir={tmp_path / 'run'}"]
    for place in PLACES:
        with monkeypatch.context() as patch:
            end_at(place, kill, patch)
            with pytest.raises(Killed):
                main(["train", "folder", *command])
        command = [f"resume={tmp_path / 'run'}"]
    assert main(["train", "folder", *command]) == 0
    assert_same(Run(tmp_path / "run"), whole)


def test_steps_that_are_in_the_checkpoint_are_not_trained_again(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        end_at((2, 1, 5), kill, patch)
        with pytest.raises(Killed):
            main(["train", "folder", *settings, f"run_dir={tmp_path / 'run'}"])
    seen: list[Place] = []
    step = FineTuner.training_step

    def noting(self: FineTuner, batch: Any, batch_idx: int) -> Any:
        seen.append((self.phase, self.current_epoch, batch_idx))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(FineTuner, "training_step", noting)
    assert main(["train", "folder", f"resume={tmp_path / 'run'}"]) == 0
    assert seen[0] == (2, 1, 4)  # two batches a step of the optimiser: the checkpoint is from after the second
    assert len(seen) < 6
