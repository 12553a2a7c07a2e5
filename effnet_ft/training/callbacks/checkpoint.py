"""Writes ``last.ckpt`` every few minutes, keeping the one before it, and ``best.ckpt`` for the best epoch."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from effnet_ft.errors import Interrupted
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.training.recovery.signals import SIGNALS, StopSignal
from effnet_ft.utils.atomic_files import atomic_link, atomic_replace, partial_path

_VOTE_BATCHES = 10  # between two votes of the ranks on writing a checkpoint: each vote synchronises them


@dataclass(eq=False)
class CheckpointSaver(Checkpoint):
    """Writes ``last.ckpt`` at the start of a phase, every few minutes and after every epoch, and ``best.ckpt``.

    It also stops the training on a signal, once a checkpoint is written: after a step, or at the end of an epoch.
    Lightning calls checkpoint callbacks last, so that the file has the state of all others.
    """

    state_key = "checkpoint"

    run: Run
    stop: StopSignal
    throughput: Throughput
    minutes: float = 10.0  # between two checkpoints within an epoch; 0 writes one after every step
    select: bool = True  # whether validation selects the best epoch; otherwise the last epoch is the best
    best: float | None = None  # the score of `best.ckpt`; None if there is none
    resumed: bool = False  # whether the phase resumes from its own checkpoint
    plan: PlanFile | None = None  # its revision is recorded in checkpoints

    def __post_init__(self) -> None:
        self.place = (0, 0)  # the next epoch of the phase and the next batch in it
        self.accumulate: int | None = None  # batches per optimiser step
        self._written = time.monotonic()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Convert the trainer's batch counts if the batch size has changed, for instance to fit into memory."""
        before, now = checkpoint["callbacks"][self.state_key].get("accumulate"), trainer.accumulate_grad_batches
        done = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        more = scaled(done["ready"], before, now) - done["ready"]
        done.update({name: done[name] + more for name in ("ready", "started", "processed", "completed")})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the model as the phase starts, so that a run interrupted in its first minutes can be resumed."""
        self.stop.listen()  # Lightning has installed its own handlers
        self.accumulate = trainer.accumulate_grad_batches
        if not self.resumed:
            self._write(trainer)
        self._written = time.monotonic()
        self.stop.deferring = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if it is due or a signal was received, which is then raised as :class:`Interrupted`."""
        if trainer.is_last_batch:  # the epoch's own checkpoint follows its validation
            return
        steps, rest = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if rest:  # checkpoints do not hold partially accumulated gradients
            return
        if trainer.world_size > 1 and steps % max(1, _VOTE_BATCHES // trainer.accumulate_grad_batches):
            return
        due = time.monotonic() - self._written >= 60 * self.minutes
        due, *signals = _any_rank(trainer, [due, *self._received()])
        self.throughput.lap()  # the vote waits for the device and the other ranks, not for data
        if due or any(signals):
            self.place = (trainer.current_epoch, batch_idx + 1)
            self._write(trainer)
            self.throughput.exclude()
        self._stop_if(signals)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's checkpoint, also as the best one if it is; raise :class:`Interrupted` on a signal."""
        self.place = (trainer.current_epoch + 1, 0)
        score = float(trainer.callback_metrics["val/selection"])
        score = -math.inf if math.isnan(score) else score
        best = self.best is None or score > self.best or not self.select
        if best:
            self.best = score
        self._write(trainer, best)
        self._stop_if(_any_rank(trainer, self._received()))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals stop the program at once again."""
        self.stop.deferring = False
        self._stop_if(_any_rank(trainer, self._received()))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let signals stop the program at once again."""
        self.stop.deferring = False

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to resume before there is a trainer."""
        return {
            "best": self.best,
            "place": list(self.place),
            "accumulate": self.accumulate,
            "plan_revision": self.plan.plan.revision if self.plan else None,
        }

    def _received(self) -> list[bool]:
        return [self.stop.received == number for number in SIGNALS]

    def _stop_if(self, signals: Sequence[bool]) -> None:
        if any(signals):
            self.stop.deferring = False
            raise Interrupted(SIGNALS[list(signals).index(True)])

    def _write(self, trainer: Trainer, best: bool = False) -> None:
        """Write ``last.ckpt``; the one before becomes ``previous.ckpt``, and ``best.ckpt`` links to a best epoch's."""
        part = partial_path(self.run.last)
        try:
            trainer.save_checkpoint(part, weights_only=False)
            if trainer.is_global_zero:
                if best:
                    atomic_link(part, self.run.best)
                if self.run.last.is_file():
                    os.replace(self.run.last, self.run.previous)
                atomic_replace(part, self.run.last)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._written = time.monotonic()


def scaled(batches: int, before: int | None, now: int) -> int:
    """Convert a count of batches from ``before`` batches per optimiser step to ``now`` per step.

    Checkpoints are written between two steps; only the last step of an epoch may have fewer batches.
    """
    return batches if before in (None, now) else -(-batches // before) * now


def _any_rank(trainer: Trainer, flags: Sequence[bool]) -> list[bool]:
    """Return for each flag whether it is set on any rank."""
    if trainer.world_size == 1:
        return list(flags)
    votes = torch.tensor(flags, dtype=torch.float32, device=trainer.strategy.root_device)
    return [vote > 0 for vote in trainer.strategy.reduce(votes, reduce_op="sum").tolist()]
