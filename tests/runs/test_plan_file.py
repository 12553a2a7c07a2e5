"""The newest revision of a run's plan is on disk before it is acted on, written by one process."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from plans import plan_of

from effnet_ft.recipe.plan import read_plan
from effnet_ft.runs.plan_file import PlanFile


@pytest.mark.parametrize("writes", [True, False])
def test_a_revision_is_taken_logged_and_saved(writes: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = PlanFile(tmp_path / "plan.yaml", plan_of(), writes)
    file.save()
    with caplog.at_level(logging.INFO):
        file.revise(file.plan.with_phase(replace(file.phase(1), epochs=7), "seven epochs"))
        file.revise(file.plan.revised("another seed", seed=3), logging.WARNING)
    assert (file.plan.revision, file.plan.seed, file.phase(1).epochs) == (3, 3, 7)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [("INFO", "seven epochs"), ("WARNING", "another seed")]
    assert file.path.is_file() == writes
    assert not writes or read_plan(file.path) == file.plan
