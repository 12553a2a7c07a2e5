"""``effnet-ft plan``: what a training would do and take, without a trace of one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.planning import estimate, speed
from effnet_ft.recipe.plan import read_plan

PHASES = "phases=[{train: head, epochs: 2, lr: auto}, {train: all, epochs: 2, lr: 1e-3, image_size: 32}]"


@pytest.fixture
def words(flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ["folder", f"data.root={flowers}", PHASES, *TINY]


@pytest.fixture
def planned(words: list[str], capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def run(*more: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["plan", *words, "--json", *more]) == 0
        values: dict[str, Any] = json.loads(capsys.readouterr().out)
        return values

    return run


def test_json_holds_decisions_reasons_and_what_it_takes(
    planned: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "measured_speed", speed.measured_speed)
    plan = planned()
    assert all(plan["estimate"][key] > 0 for key in ("seconds", "disk_bytes", "memory_bytes"))
    assert [phase["train"] for phase in plan["phases"]] == ["head", "all"]
    assert all(phase["seconds"] > 0 for phase in plan["phases"])
    kinds = [phase["source"]["value"]["kind"] for phase in plan["phases"]]
    assert kinds == ["stored", "decoded"] and all(phase["source"]["reason"] for phase in plan["phases"])
    assert plan["model"]["weights"] == {"value": "lite", "reason": "the best published top-1"}
    assert plan["phases"][0]["optim"]["lr"]["value"] is None
    assert plan["images"]["train"] == 24
    assert not list(Path().iterdir()), "something was written"


def test_people_get_a_table(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 0
    printed = capsys.readouterr().out
    for part in ("24 training, 6 validation, 6 test, 3 classes", "grid of heads", "expected: about", "of memory"):
        assert part in printed
    assert "run folder: runs/flowers-lite0" in printed
    assert not list(Path().iterdir()), "something was written"


def test_a_training_does_what_was_planned(
    words: list[str], planned: Callable[..., dict[str, Any]], no_evaluation: None
) -> None:
    assert main(["train", *words]) == 0
    done = read_plan(Path("runs/flowers-lite0/plan.yaml")).to_dict()
    phases = planned("run_dir=runs/flowers-lite0")["phases"]
    for before, after in zip(phases, done["phases"], strict=True):
        assert before["source"]["value"] == after["source"]
        assert (before["steps"], before["search"]) == (after["steps"], after["search"])
    assert done["revision"] == 2 and done["phases"][0]["optim"]["lr"] is not None


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["phases.0.lr=-1"], "phases[0].lr is -1"),
        (["data.root=gone"], "gone"),
        (["model.weights=gone.pth"], "gone.pth"),
        (["trainer.compile=on", "trainer.checkpointing=on"], "trainer.compile is 'on'"),
        (["trainer.strategy=fsdp"], "trainer.strategy is 'fsdp'"),
    ],
)
def test_what_a_training_would_refuse_is_refused(
    more: list[str], told: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words, *more]) == 2
    message = capsys.readouterr().err
    assert message.startswith("effnet-ft: ") and told in message
    assert not list(Path().iterdir())


def test_it_is_a_command_of_its_own(words: list[str]) -> None:
    short = ["phases=[{train: head, epochs: 1, lr: 1e-3}]", "data.image_size=32"]
    command = [sys.executable, "-m", "effnet_ft", "plan", *words, *short, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["revision"] == 1, "nothing else is printed"
