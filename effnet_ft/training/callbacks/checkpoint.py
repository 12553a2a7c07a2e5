"""Checkpoints: the last one every few minutes, with the one before it; the best epoch's; none of them ever half."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from effnet_ft.errors import Interrupted
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.callbacks.throughput import Throughput
from effnet_ft.training.recovery.signals import SIGNALS, StopSignal
from effnet_ft.utils.atomic_files import atomic_link, atomic_replace, partial_path

_VOTE_STEPS = 10
"""Batches between two votes of several processes on whether to write: a vote waits for all of them."""


class CheckpointSaver(Checkpoint):
    """Writes ``last.ckpt`` when a phase begins, every few minutes and after every epoch, and ``best.ckpt``.

    A signal to stop is answered here, when a checkpoint is written: after a step, or at the end of an epoch. Lightning
    calls checkpointing callbacks after all others, so that what the others counted is in the file.

    Args:
        run: the run folder.
        stop: whether to stop.
        throughput: leaves out of its waiting time what checkpoints take.
        minutes: between two checkpoints within an epoch; 0 writes one after every step of the optimiser. Several
            processes look about every 10 batches whether it is time, and whether a signal came.
        select: keep the best epoch by the validation images; without, the last epoch counts as the best.
        best: the score of ``best.ckpt``, as earlier phases left it; None where there is none.
        begun: the phase goes on from a checkpoint of its own.
        plan: of the run, whose revision is named in the checkpoints.
    """

    state_key = "checkpoint"

    def __init__(
        self,
        run: Run,
        stop: StopSignal,
        throughput: Throughput,
        *,
        minutes: float = 10.0,
        select: bool = True,
        best: float | None = None,
        begun: bool = False,
        plan: PlanFile | None = None,
    ) -> None:
        self.run = run
        self.stop = stop
        self.throughput = throughput
        self.minutes = minutes
        self.select = select
        self.best = best
        self.begun = begun
        self.plan = plan
        self.place = (0, 0)
        """The epoch of the phase, and the batch of the epoch, that come next."""
        self.accumulate: int | None = None
        """Batches a step of the optimiser."""
        self._written = time.monotonic()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the trainer count the epoch's batches as they are now: smaller ones may be what fits the memory."""
        before, now = checkpoint["callbacks"][self.state_key].get("accumulate"), trainer.accumulate_grad_batches
        done = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        more = scaled(done["ready"], before, now) - done["ready"]
        done.update({name: done[name] + more for name in ("ready", "started", "processed", "completed")})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what a phase begins with, so that an interruption in its first minutes has where to resume."""
        self.stop.listen()  # Lightning has put its own handlers in place
        self.accumulate = trainer.accumulate_grad_batches
        if not self.begun:
            self._write(trainer)
        self._written = time.monotonic()
        self.stop.deferring = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint where it is time, or where a signal came.

        Raises:
            Interrupted: where one came.
        """
        if trainer.is_last_batch:  # the validation follows, and the epoch's own checkpoint
            return
        steps, half = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if half:  # gradients that are half added up are in no checkpoint
            return
        if trainer.world_size > 1 and steps % max(1, _VOTE_STEPS // trainer.accumulate_grad_batches):
            return
        due = time.monotonic() - self._written >= 60 * self.minutes
        due, *asked = _anyones(trainer, [due, *self._asked()])
        self.throughput.mark_step_end()  # a vote waits for the other processes and for the device, not for data
        if due or any(asked):
            self.place = (trainer.current_epoch, batch_idx + 1)
            self._write(trainer)
            self.throughput.exclude()
        self._end_where(asked)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's checkpoint, and as the best one where it is.

        Raises:
            Interrupted: where a signal came.
        """
        self.place = (trainer.current_epoch + 1, 0)
        score = float(trainer.callback_metrics["val/selection"])
        score = -math.inf if math.isnan(score) else score  # no number is no better than any
        better = self.best is None or score > self.best or not self.select
        if better:
            self.best = score
        self._write(trainer, best=better)
        self._end_where(_anyones(trainer, self._asked()))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let signals stop the program at once again."""
        self.stop.deferring = False
        self._end_where(_anyones(trainer, self._asked()))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let signals stop the program at once again."""
        self.stop.deferring = False

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to know before it has a trainer."""
        return {
            "best": self.best,
            "place": list(self.place),
            "accumulate": self.accumulate,
            "plan_revision": self.plan.plan.revision if self.plan else None,
        }

    def _asked(self) -> list[bool]:
        return [self.stop.received == number for number in SIGNALS]

    def _end_where(self, asked: Sequence[bool]) -> None:
        if any(asked):
            self.stop.deferring = False
            raise Interrupted(next(number for number, yes in zip(SIGNALS, asked, strict=True) if yes))

    def _write(self, trainer: pl.Trainer, best: bool = False) -> None:
        """Write ``last.ckpt`` beside its place, then give it that name; what had it before becomes ``previous.ckpt``.

        Args:
            trainer: whose state is written.
            best: it is ``best.ckpt`` as well: one file of two names, until either is replaced.
        """
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
    """Return how many batches are done where ``now`` of them make a step of the optimiser, instead of ``before``.

    Within an epoch, checkpoints are written between two steps; only the last step of an epoch may have fewer batches.
    """
    return batches if before in (None, now) else -(-batches // before) * now


def _anyones(trainer: pl.Trainer, flags: Sequence[bool]) -> list[bool]:
    """Return for each flag whether any process has set it: all must do the same."""
    if trainer.world_size == 1:
        return list(flags)
    votes = torch.tensor(flags, dtype=torch.float32, device=trainer.strategy.root_device)
    return [vote > 0 for vote in trainer.strategy.reduce(votes, reduce_op="sum").tolist()]
