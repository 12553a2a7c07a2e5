"""When and by which names checkpoints are written, what processes ask each other; resuming is in ``test_resume.py``."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from effnet_ft.errors import Interrupted
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.callbacks import checkpoint, throughput
from effnet_ft.training.callbacks.checkpoint import CheckpointSaver
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.training.recovery.signals import SIGNALS, StopSignal


def several(accumulate: int = 1) -> Any:
    return SimpleNamespace(world_size=2, is_last_batch=False, accumulate_grad_batches=accumulate, current_epoch=0)


@pytest.mark.parametrize(
    ("accumulate", "expected"),
    [(1, [10, 20, 30, 40]), (3, [9, 18, 27, 36]), (4, [8, 16, 24, 32, 40]), (7, [7, 14, 21, 28, 35]), (16, [16, 32])],
)
def test_processes_ask_each_other_about_every_ten_batches(
    accumulate: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes = []

    def any_rank(trainer: Any, flags: Sequence[bool]) -> list[bool]:
        votes.append(batch + 1)
        return list(flags)

    monkeypatch.setattr(checkpoint, "_any_rank", any_rank)
    keeper, none = CheckpointSaver(Run(tmp_path), StopSignal(), Throughput()), SimpleNamespace()
    for batch in range(40):
        keeper.on_train_batch_end(several(accumulate), none, None, None, batch)  # type: ignore[arg-type]
    assert votes == expected


def test_a_signal_that_one_process_gets_at_the_end_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [number == signal.SIGTERM for number in SIGNALS]
    monkeypatch.setattr(checkpoint, "_any_rank", lambda trainer, flags: others)
    with pytest.raises(Interrupted) as raised:
        CheckpointSaver(Run(tmp_path), StopSignal(), Throughput()).on_train_end(several(), SimpleNamespace())  # type: ignore[arg-type]
    assert raised.value.number == signal.SIGTERM


class Clock:
    """Time that passes where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Trainer:
    """Alone, of batches of three images; its checkpoints hold their number and take a minute of ``clock``."""

    world_size, is_last_batch, accumulate_grad_batches, current_epoch, is_global_zero = 1, False, 1, 0, True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.saved = 0
        self.callback_metrics = {"val/selection": 0.0}

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        self.clock.now += 60
        self.saved += 1
        path.write_text(str(self.saved))

    def epoch(self, keeper: CheckpointSaver, score: float) -> None:
        self.callback_metrics["val/selection"] = score
        keeper.on_train_epoch_end(self, SimpleNamespace())  # type: ignore[arg-type]


def refuse_links(*paths: Any) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("links", [True, False])
def test_a_best_epoch_is_written_once_under_two_names(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    run, trainer = Run(tmp_path), Trainer(Clock())
    run.checkpoints.mkdir()
    keeper = CheckpointSaver(run, StopSignal(), Throughput())
    (run.checkpoints / "best.ckpt.part").write_text("what a killed process left")
    trainer.epoch(keeper, 0.5)
    assert trainer.saved == 1 and run.best.samefile(run.last) == links
    trainer.epoch(keeper, 0.7)
    trainer.epoch(keeper, 0.6)
    read = {path.name: path.read_text() for path in run.checkpoints.iterdir()}
    assert read == {"best.ckpt": "2", "last.ckpt": "3", "previous.ckpt": "2"} and trainer.saved == 3
    trainer.epoch(keeper, 0.8)
    read = {path.name: path.read_text() for path in run.checkpoints.iterdir()}
    assert read == {"best.ckpt": "4", "last.ckpt": "4", "previous.ckpt": "3"}


@pytest.mark.parametrize("fails", ["best.ckpt", "last.ckpt"])
def test_a_best_epoch_that_cannot_be_written_leaves_what_was_there(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trainer = Run(tmp_path), Trainer(Clock())
    run.checkpoints.mkdir()
    keeper = CheckpointSaver(run, StopSignal(), Throughput())
    trainer.epoch(keeper, 0.5)
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target.name == fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.epoch(keeper, 0.7)
    read = {path.name: path.read_text() for path in run.checkpoints.iterdir()}
    left = {"best.ckpt": "1", "last.ckpt": "1"} if fails == "best.ckpt" else {"best.ckpt": "2", "previous.ckpt": "1"}
    assert read == left


def test_writing_a_checkpoint_and_voting_are_no_waiting_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, stopwatch = Clock(), Throughput()
    run, trainer, module = Run(tmp_path), Trainer(clock), SimpleNamespace()
    run.checkpoints.mkdir()
    keeper = CheckpointSaver(run, StopSignal(), stopwatch, minutes=0)

    def vote(trainer: Any, flags: Sequence[bool]) -> list[bool]:
        clock.now += 1
        return list(flags)

    monkeypatch.setattr(throughput, "time", clock)
    monkeypatch.setattr(checkpoint, "_any_rank", vote)
    stopwatch.on_train_epoch_start(trainer, module)  # type: ignore[arg-type]
    for number in range(4):
        clock.now += 2  # the batch is read
        stopwatch.on_train_batch_start(trainer, module, None, number)  # type: ignore[arg-type]
        clock.now += 5
        for callback in (stopwatch, keeper):
            callback.on_train_batch_end(trainer, module, None, (None, [0, 1, 2]), number)  # type: ignore[arg-type]
    assert trainer.saved == 4
    assert stopwatch.epoch == {"images": 12, "seconds": 4 * (2 + 5 + 1), "waited": 4 * 2}
    assert stopwatch.speed(stopwatch.epoch) == {"images_per_second": 12 / 32, "data_wait_fraction": 0.25}
