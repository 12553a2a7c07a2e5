"""A run folder that comes from elsewhere: what is in it is data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from trap import Trap

from effnet_ft.cli import main
from effnet_ft.errors import WeightsError
from effnet_ft.recipe import load_recipe
from effnet_ft.runs.run_folder import RUN_DIR_VARIABLE, Run, choose_run_dir, load_model


def test_a_run_that_was_stopped_early_is_told_from_no_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(WeightsError, match=r"has no checkpoints/best.ckpt: .* resume it with resume="):
        load_model(tmp_path)
    (tmp_path / "recipe.yaml").unlink()
    with pytest.raises(WeightsError, match=r"there is no .*: give a run folder"):
        load_model(tmp_path)


def test_run_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(RUN_DIR_VARIABLE, raising=False)
    recipe = load_recipe("folder", ["data.root=pets"])
    assert choose_run_dir(recipe) == "runs/pets-lite0"
    Path("runs/pets-lite0").mkdir(parents=True)
    assert choose_run_dir(recipe) == "runs/pets-lite0-2"
    monkeypatch.setenv(RUN_DIR_VARIABLE, "runs/first")
    assert choose_run_dir(recipe) == "runs/first", "a process that the training launched"
    assert choose_run_dir(load_recipe("folder", ["data.root=pets", "run_dir=own"])) == "own"


COMMANDS = {
    "resume": ["train", "folder", "resume={run}"],
    "predict": ["predict", "{run}", "{image}"],
    "evaluate": ["evaluate", "{run}"],
    "export": ["export", "{run}", "--format", "timm", "--out", "{out}"],
    "train from it": ["train", "folder", "data.root={images}", "model.weights={run}/checkpoints/last.ckpt"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkpoint_cannot_run_code(
    command: str, trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, mark = Run(tmp_path / "run"), tmp_path / "mark"
    shutil.copytree(trained_run, run.folder)
    for file in (run.best, run.last):
        checkpoint = torch.load(file, weights_only=True)
        torch.save({**checkpoint, "callbacks": Trap(mark)}, file)
    places = {"run": run.folder, "image": flowers / "tulip" / "000.jpg", "images": flowers, "out": tmp_path / "out.pth"}
    run.report.unlink()  # a finished run is not resumed, and its checkpoint not opened
    arguments = [text.format(**places) for text in COMMANDS[command]]
    assert main([*arguments, *([f"run_dir={tmp_path / 'new'}"] if command == "train from it" else [])]) == 2
    assert "would run code" in capsys.readouterr().err
    assert not mark.exists()
    torch.load(run.last, weights_only=False)
    assert mark.exists(), "the trap is none"
