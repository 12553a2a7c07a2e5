"""Learning rates that were chosen train the phases, are written down, and are kept when a run is resumed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tiny import TINY

from effnet_ft.cli import main


def test_chosen_rates_train_and_are_written_down(
    flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    phases = "phases=[{train: head, epochs: 2, lr: auto}, {train: stage7, epochs: 2, lr: auto}]"
    assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run}", phases, *TINY]) == 0
    rates = json.loads((run / "learning_rates.json").read_text())
    assert set(rates) == {"1", "2"}
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    chosen = [rates[number]["lr"] for number in "1122"]
    assert [float(row["lr"]) for row in rows] == pytest.approx(chosen, rel=1e-4)
    with (run / "lr_search-1.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert len(trials) == 56 and float(trials[0]["lr"]) == pytest.approx(rates["1"]["lr"], rel=1e-4)
    assert (run / "lr_search-2.csv").is_file()
    assert "the best of 56 settings" in capsys.readouterr().out


def test_a_resumed_phase_keeps_its_rate(flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    phases = "phases=[{train: stage7, epochs: 2, lr: auto}]"
    assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run}", phases, *TINY]) == 0
    rates = json.loads((run / "learning_rates.json").read_text())

    def fail(*_: object) -> None:
        raise AssertionError("it was searched again")

    monkeypatch.setattr("effnet_ft.training.phase.find_lr", fail)
    assert main(["train", "folder", f"resume={run}"]) == 0
    assert json.loads((run / "learning_rates.json").read_text()) == rates
