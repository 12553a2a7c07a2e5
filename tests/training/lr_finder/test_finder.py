"""Learning rates that were searched train the phases, make the plan's next revision, and are kept by a resumed run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.recipe.plan import read_plan
from effnet_ft.runs.run_folder import Run, read_checkpoint
from effnet_ft.training.module import FineTuner

PHASES = "phases=[{train: head, epochs: 2, lr: auto}, {train: stage7, epochs: 2, lr: auto}]"


@pytest.fixture(scope="module")
def run(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was killed in the last epoch of its second phase, and resumed."""
    run, step = Run(tmp_path_factory.mktemp("searched") / "run"), FineTuner.training_step

    class Killed(BaseException):
        pass

    def ending(self: FineTuner, batch: Any, batch_idx: int) -> Any:
        if (self.phase, self.current_epoch) == (1, 1):
            raise Killed
        return step(self, batch, batch_idx)

    def search(*_: object) -> None:
        raise AssertionError("it was searched again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTuner, "training_step", ending)
        with pytest.raises(Killed):
            main(["train", "folder", f"data.root={flowers}", f"run_dir={run.folder}", PHASES, *TINY])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("effnet_ft.training.phase.find_lr", search)
        assert main(["train", "folder", f"resume={run.folder}"]) == 0
    return run


def test_searched_rates_train_and_are_written_down(run: Run) -> None:
    plan = read_plan(run.plan)
    with run.table.open() as file:
        rows = list(csv.DictReader(file))
    searched = [plan.phases[number].optim.lr for number in (0, 0, 1, 1)]
    assert [float(row["lr"]) for row in rows] == pytest.approx(searched, rel=1e-4)
    with (run.folder / "lr_search-1.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert len(trials) == 56 and float(trials[0]["lr"]) == pytest.approx(searched[0], rel=1e-4)
    assert float(trials[0]["weight_decay"]) == pytest.approx(plan.phases[0].optim.weight_decay, rel=1e-4)
    assert (run.folder / "lr_search-2.csv").is_file()
    assert [phase.search for phase in plan.phases] == ["grid of heads", "range test"]


def test_a_searched_rate_makes_a_revision_that_checkpoints_name(run: Run) -> None:
    plan = read_plan(run.plan)
    assert plan.revision == 3 and "the best of 56 settings" in plan.changes[0] and "range test" in plan.changes[1]
    assert "the best of 56 settings" in plan.reasons["phases.0.lr"]
    assert plan.changes[0] in run.log.read_text()
    assert read_checkpoint(run.last)["callbacks"]["checkpoint"]["plan_revision"] == 3
