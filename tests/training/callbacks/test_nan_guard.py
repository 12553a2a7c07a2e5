"""A loss that is no longer a number: told with its step and images, before anything is written of it."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import TINY
from torch import Tensor

from effnet_ft.activations.datamodule import ActivationDataset
from effnet_ft.cli import main
from effnet_ft.data.datamodule import ImageDataset
from effnet_ft.data.sampling import DistributedBatchSampler, EpochSampler
from effnet_ft.errors import DivergedError
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.settings import Optimization
from effnet_ft.runs.run_folder import Run, read_checkpoint
from effnet_ft.training.callbacks.nan_guard import CHECK_STEPS, NaNGuard, images_of, nonfinite_tensors
from effnet_ft.training.module import FineTuner

PHASE = "phases=[{train: head, epochs: 3, lr: 1e-2, warmup_epochs: 0, schedule: constant}]"


def train(flowers: Path, run: Path, *more: str) -> int:
    return main(["train", "folder", f"data.root={flowers}", f"run_dir={run}", PHASE, *TINY, *more])


def all_finite(path: Path) -> bool:
    return nonfinite_tensors(read_checkpoint(path)["state_dict"]) == []


@pytest.mark.parametrize("store", ["keep", "off"])
def test_step_images_and_learning_rate_are_named_and_the_last_good_checkpoint_stays(
    store: str, flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, step = Run(tmp_path / "run"), FineTuner.training_step
    asked: list[int] = []

    def ruin(self: FineTuner, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return step(self, batch, index) * (float("inf") if (self.current_epoch, index) == (1, 1) else 1)

    monkeypatch.setattr(FineTuner, "training_step", ruin)
    for kind in (ImageDataset, ActivationDataset):
        monkeypatch.setattr(kind, "__getitem__", noted(kind.__getitem__, asked))  # type: ignore[attr-defined]
    assert train(flowers, run.folder, f"store={store}") == 2
    told = capsys.readouterr().err
    assert (
        "the loss is inf in phase 1 (head), epoch 2, step 2 of 3, at a learning rate of 0.01: lower phases[0].lr"
        in told
    )
    assert f"Earlier checkpoints are in {run.checkpoints}" in told
    with run.split.open() as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["split"] == "train"]
    # 24 training images in 3 batches of 8; the second batch of the second epoch
    wanted = [item % len(paths) for item in asked if item // len(paths) == 1][8:16]
    assert sorted(told.rpartition("The images of the step:\n")[2].split()) == sorted(paths[index] for index in wanted)
    for path in (run.last, run.best):
        assert all_finite(path) and read_checkpoint(path)["epoch"] == 0
    assert len(run.table.read_text().splitlines()) == 2, "the table has the good epoch alone"


def noted(get: Any, asked: list[int]) -> Any:
    def getting(self: Any, item: Any) -> Any:
        if self.__class__ is ImageDataset or self.views:  # not the validation images
            asked.extend(item if isinstance(item, list) else [item])
        return get(self, item)

    return getting


def test_ruined_weights_reach_no_checkpoint(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, end = Run(tmp_path / "run"), FineTuner.on_validation_epoch_end

    def ruin(self: FineTuner) -> None:
        end(self)
        if self.current_epoch == 1:
            with torch.no_grad():
                next(self.model.head.parameters()).fill_(float("nan"))

    monkeypatch.setattr(FineTuner, "on_validation_epoch_end", ruin)
    assert train(flowers, run.folder) == 2
    assert "the weights are no longer finite (model.head" in (told := capsys.readouterr().err) and "epoch 2" in told
    for path in (run.last, run.best):
        assert all_finite(path) and read_checkpoint(path)["epoch"] == 0
    assert not list(run.checkpoints.glob("*.part"))


def test_weights_that_are_broken_from_the_beginning_are_called_so(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    freeze = Classifier.freeze

    def broken(self: Classifier, *arguments: Any) -> None:
        freeze(self, *arguments)
        with torch.no_grad():
            next(self.head.parameters()).fill_(float("inf"))

    monkeypatch.setattr(Classifier, "freeze", broken)
    assert train(flowers, tmp_path / "run") == 2
    assert "the initial weights are not finite (model.head" in capsys.readouterr().err


def test_a_device_is_waited_for_every_so_many_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    module = FineTuner(Classifier("lite0", classes=("a", "b")), Optimization(lr=1.0))
    monkeypatch.setattr(FineTuner, "device", torch.device("cuda"))
    loader = SimpleNamespace(
        batch_sampler=None, sampler=DistributedBatchSampler(EpochSampler(200, (0,)), 2), dataset=range(200)
    )
    trainer: Any = SimpleNamespace(
        world_size=1, is_last_batch=False, current_epoch=0, num_training_batches=100, train_dataloader=loader
    )
    trainer.optimizers = [SimpleNamespace(param_groups=[{"lr": 0.5}])]
    guard = NaNGuard(Run("run"), [f"{number}.jpg" for number in range(200)])
    for step in range(CHECK_STEPS):
        guard.on_train_batch_start(trainer, module, None, step)
        loss = {"loss": torch.tensor(float("nan") if step >= 3 else 1.0)}
        if step == CHECK_STEPS - 1:
            with pytest.raises(DivergedError, match=r"step 4 of 100, at a learning rate of 0\.5"):
                guard.on_train_batch_end(trainer, module, loss, None, step)
        else:
            guard.on_train_batch_end(trainer, module, loss, None, step)


@pytest.mark.parametrize("begin", [(0, 0), (2, 0), (2, 3)])
def test_the_images_of_a_batch_where_the_epoch_was_resumed_within(begin: tuple[int, int]) -> None:
    batches = DistributedBatchSampler(EpochSampler(21, (5,)), 4)
    batches.set_epoch(2)
    whole = list(batches)
    batches.start_at(*begin)
    batches.set_epoch(2)
    loader: Any = SimpleNamespace(batch_sampler=batches, dataset=range(21))
    for number in (3, 4):
        assert images_of(loader, number) == [item % 21 for item in whole[number]]
