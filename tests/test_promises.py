"""What the README promises, at full size: minutes each, so only where `make slow` asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from effnet_ft.cli import main

pytestmark = pytest.mark.slow


def test_the_demo_learns_its_flowers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    printed = capsys.readouterr().out
    assert "run folder: runs/drawn-flowers-lite0" in printed
    assert "evaluate runs/drawn-flowers-lite0" in printed
    assert "predict runs/drawn-flowers-lite0 data/drawn-flowers" in printed
    assert json.loads(Path("runs/drawn-flowers-lite0/metrics.json").read_text())["test/acc1"] > 0.9


@pytest.mark.parametrize("seed", [0, 1])
def test_the_folder_recipe_learns_flowers17(seed: int, real_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", "folder", f"data.root={real_data / 'flowers17'}", f"run_dir={run}", f"seed={seed}"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/acc1"] >= 0.95
    assert metrics["test/ece"] < max(0.02, metrics["test/ece_uncalibrated"] / 2)
