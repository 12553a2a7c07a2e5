"""A batch that does not fit is halved and accumulated, from the beginning of its phase."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import TINY
from torch import Tensor

from effnet_ft.cli import main
from effnet_ft.errors import MachineError
from effnet_ft.models.classifier import Classifier
from effnet_ft.planning.phases import PhasePlan, plan_phases
from effnet_ft.recipe import load_recipe
from effnet_ft.runs.run_folder import Run, read_checkpoint
from effnet_ft.training.module import FineTuner
from effnet_ft.training.recovery.out_of_memory import halve_batch, retry_on_oom


def plan_of(*overrides: str) -> PhasePlan:
    phases = "phases=[{train: head, epochs: 1, lr: 1e-2}]"
    return plan_phases(load_recipe("folder", ["data.root=photos", phases, *overrides]))[0]


class Gpu:
    """Trains a phase on a GPU that holds so many images."""

    def __init__(self, model: Classifier, images: int, epochs_before: int = 0) -> None:
        self.model, self.images, self.epochs = model, images, epochs_before
        self.begun_with: list[float] = []
        self.settled: list[PhasePlan] = []

    def attempt(self, plan: PhasePlan) -> PhasePlan:
        weight = next(self.model.head.parameters())
        self.begun_with.append(float(weight.detach().sum()))
        with torch.no_grad():
            weight += 1
        if plan.data.batch_size > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plan

    def train(self, plan: PhasePlan) -> PhasePlan:
        return retry_on_oom(plan, self.model, self.attempt, begun=lambda: self.epochs > 0, settle=self.settled.append)


@pytest.fixture
def model() -> Classifier:
    return Classifier("lite0", classes=("a", "b"))


@pytest.mark.parametrize(
    ("batch", "accumulate", "smaller"), [(32, 1, (16, 2)), (30, 2, (15, 4)), (15, 2, (6, 5)), (7, 1, (1, 7))]
)
def test_the_optimisers_batch_stays(batch: int, accumulate: int, smaller: tuple[int, int]) -> None:
    plan = halve_batch(plan_of(f"data.batch_size={batch}", f"optim.accumulate={accumulate}"))
    assert (plan.data.batch_size, plan.optim.accumulate) == smaller
    assert plan.data.batch_size * plan.optim.accumulate == batch * accumulate


def test_a_phase_begins_again_until_it_fits(model: Classifier, caplog: pytest.LogCaptureFixture) -> None:
    gpu = Gpu(model, images=10)
    found = gpu.train(plan_of("data.batch_size=32"))
    assert (found.data.batch_size, found.optim.accumulate) == (8, 4)
    assert [plan.data.batch_size for plan in gpu.settled] == [16, 8]
    assert len(set(gpu.begun_with)) == 1 and len(gpu.begun_with) == 3, "each begins with the same weights"
    told = [record.getMessage() for record in caplog.records]
    assert told[1] == (
        "phase 1: 16 images at once do not fit on the GPU: it begins again with 8 at once and 4 batches a step of the "
        "optimiser"
    )


def test_what_fits_is_trained_once(model: Classifier) -> None:
    gpu = Gpu(model, images=32)
    assert gpu.train(plan_of()).data.batch_size == 32 and len(gpu.begun_with) == 1 and gpu.settled == []


@pytest.mark.parametrize(
    ("overrides", "images", "epochs", "told"),
    [
        (["trainer.on_oom=stop"], 8, 0, r"try data\.batch_size=16 optim\.accumulate=2"),
        (["data.batch_size=2"], 0, 0, r"not even one image.*data\.image_size"),
        ([], 8, 1, "another program takes some of it"),
    ],
)
def test_where_nothing_is_tried_a_message_says_what_helps(
    overrides: list[str], images: int, epochs: int, told: str, model: Classifier
) -> None:
    with pytest.raises(MachineError, match=told):
        Gpu(model, images, epochs).train(plan_of(*overrides))


def test_a_run_ends_as_if_it_had_begun_with_the_batch_that_fits(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = "phases=[{train: head, epochs: 1, lr: 1e-2}, {train: stage7, epochs: 2, lr: 1e-3, drop_path: 0"
    settings = [f"data.root={flowers}", *TINY]
    small, halving = Run(tmp_path / "small"), Run(tmp_path / "halving")
    chosen = f"{phases}, batch_size: 4, accumulate: 2}}]"
    assert main(["train", "folder", *settings, chosen, f"run_dir={small.folder}"]) == 0
    step = FineTuner.training_step

    def full(self: FineTuner, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = step(self, batch, index)
        if self.phase == 1 and len(batch[1]) > 4 and index == 1:  # after a step that has changed the weights
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(FineTuner, "training_step", full)
    assert main(["train", "folder", *settings, f"{phases}}}]", f"run_dir={halving.folder}"]) == 0
    assert capsys.readouterr().out.count("8 images at once do not fit on the GPU: it begins again with 4") == 1
    ours, theirs = (read_checkpoint(run.last)["state_dict"] for run in (halving, small))
    assert [name for name, value in theirs.items() if not torch.equal(value, ours[name])] == []
    phase = load_recipe(halving.recipe).phases[1]
    assert (phase.overrides["batch_size"], phase.overrides["accumulate"]) == (4, 2), "a resumed run would not fit again"
    assert len(halving.table.read_text().splitlines()) == 4


def test_a_run_that_may_not_halve_stops_with_what_to_try(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FineTuner, "training_step", full)
    settings = [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", *TINY, "trainer.on_oom=stop"]
    assert main(["train", "folder", *settings, "phases=[{train: head, epochs: 1, lr: 1e-2}]"]) == 2
    told = capsys.readouterr().err
    assert "8 images at once do not fit on the GPU: try data.batch_size=4 optim.accumulate=2" in told
