"""A batch that does not fit is halved and accumulated, from the beginning of its phase."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plans import plan_file, plan_of
from tiny import TINY
from torch import Tensor

from effnet_ft.cli import main
from effnet_ft.errors import MachineError
from effnet_ft.models.classifier import Classifier
from effnet_ft.recipe.plan import Plan, read_plan
from effnet_ft.runs.plan_file import PlanFile
from effnet_ft.runs.run_folder import Run, read_checkpoint
from effnet_ft.training.module import FineTuner
from effnet_ft.training.recovery.out_of_memory import halve_batch, retry_on_oom

HEAD = "phases=[{train: head, epochs: 1, lr: 1e-2}]"


class Gpu:
    """Trains a phase on a GPU that holds so many images."""

    def __init__(self, model: Classifier, plan: PlanFile, images: int, epochs_before: int = 0) -> None:
        self.model, self.plan, self.images, self.epochs = model, plan, images, epochs_before
        self.begun_with: list[float] = []
        self.tried: list[int] = []

    def attempt(self) -> int:
        weight, batch = next(self.model.head.parameters()), self.plan.phase(0).batch_size
        self.begun_with.append(float(weight.detach().sum()))
        self.tried.append(batch)
        with torch.no_grad():
            weight += 1
        if batch > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch

    def train(self) -> int:
        return retry_on_oom(0, self.plan, self.model, self.attempt, begun=lambda: self.epochs > 0)


@pytest.fixture
def model() -> Classifier:
    return Classifier("lite0", classes=("a", "b"))


def batches_of(plan: Plan) -> list[tuple[int, int]]:
    return [(phase.batch_size, phase.optim.accumulate) for phase in plan.phases]


@pytest.mark.parametrize(
    ("batch", "accumulate", "smaller"), [(32, 1, (16, 2)), (30, 2, (15, 4)), (15, 2, (6, 5)), (7, 1, (1, 7))]
)
def test_the_optimisers_batch_stays(batch: int, accumulate: int, smaller: tuple[int, int]) -> None:
    plan = plan_of(HEAD, f"data.batch_size={batch}", f"optim.accumulate={accumulate}")
    phase = halve_batch(plan, plan.phases[0])
    assert (phase.batch_size, phase.optim.accumulate) == smaller
    assert phase.batch_size * phase.optim.accumulate == batch * accumulate


def test_statistics_move_as_far_in_the_parts_as_in_the_whole() -> None:
    plan = plan_of(HEAD, "model.bn_momentum=auto")
    phase = halve_batch(plan, plan.phases[0])
    assert 1 - (1 - phase.bn_momentum) ** 2 == pytest.approx(plan.phases[0].bn_momentum)


def test_a_phase_begins_again_until_it_fits(
    model: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_file(plan_of(HEAD), tmp_path)
    gpu = Gpu(model, plan, images=10)
    assert gpu.train() == 8 and gpu.tried == [32, 16, 8]
    assert batches_of(plan.plan) == [(8, 4)] and plan.plan.revision == 3
    assert plan.plan.reasons["phases.0.batch_size"] == "16 do not fit on the GPU"
    assert len(set(gpu.begun_with)) == 1, "each begins with the same weights"
    told = [record.getMessage() for record in caplog.records]
    assert told == list(plan.plan.changes)
    assert told[1] == (
        "phase 1: a batch of 16 does not fit on the GPU: restarting the phase with batches of 8, 4 of them per "
        "optimiser step"
    )


def test_each_revision_is_written_before_the_next_attempt(model: Classifier, tmp_path: Path) -> None:
    plan = PlanFile(tmp_path / "plan.yaml", plan_of(HEAD))
    written = []

    class Watched(Gpu):
        def attempt(self) -> int:
            written.append(read_plan(plan.path).revision if plan.path.is_file() else 0)
            return super().attempt()

    Watched(model, plan, images=10).train()
    assert written == [0, 2, 3] and read_plan(plan.path) == plan.plan


def test_what_fits_is_trained_once(model: Classifier, tmp_path: Path) -> None:
    gpu = Gpu(model, plan_file(plan_of(HEAD), tmp_path), images=32)
    assert gpu.train() == 32 and gpu.tried == [32] and gpu.plan.plan.revision == 1


@pytest.mark.parametrize(
    ("overrides", "images", "epochs", "told"),
    [
        (["trainer.on_oom=stop"], 8, 0, r"try data\.batch_size=16 optim\.accumulate=2"),
        (["data.batch_size=2"], 0, 0, r"not even one image.*data\.image_size"),
        ([], 8, 1, "another program uses some of it"),
    ],
)
def test_where_nothing_is_tried_a_message_says_what_helps(
    overrides: list[str], images: int, epochs: int, told: str, model: Classifier, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=told):
        Gpu(model, plan_file(plan_of(HEAD, *overrides), tmp_path), images, epochs).train()


@pytest.mark.usefixtures("no_evaluation")
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
    assert (
        capsys.readouterr().out.count("a batch of 8 does not fit on the GPU: restarting the phase with batches of 4")
        == 1
    )
    ours, theirs = (read_checkpoint(run.last)["state_dict"] for run in (halving, small))
    assert [name for name, value in theirs.items() if not torch.equal(value, ours[name])] == []
    assert batches_of(read_plan(halving.plan)) == [(8, 1), (4, 2)], "a resumed run would not fit again"
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
    assert "a batch of 8 does not fit on the GPU: try data.batch_size=4 optim.accumulate=2" in told
