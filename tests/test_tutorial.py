"""The tutorial's commands, one after the other, as a newcomer gives them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pages import HOME, commands

pytestmark = pytest.mark.slow


def test_the_tutorial_goes_from_photographs_to_an_exported_model(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(real_data / "flowers17")
    environment = {**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": str(os.cpu_count())}
    for text in commands(HOME / "docs" / "tutorial.md"):
        name, *words = shlex.split(text)
        assert name == "effnet-ft"
        done = subprocess.run(
            [sys.executable, "-m", "effnet_ft", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        print(f"$ {text}\n{done.stdout}{done.stderr}")
        # Flowers-17 has photographs that are in training and test, which the check finds serious.
        assert done.returncode == (2 if words[0] == "check" else 0), text
    assert json.loads((tmp_path / "runs/photos/metrics.json").read_text())["test/acc1"] > 0.9
    for file in ("runs/photos/report.html", "predictions.csv", "sure.csv", "photos.onnx", "photos-int8.onnx"):
        assert (tmp_path / file).stat().st_size > 0
    # An exported model answers as the run does.
    assert len((tmp_path / "again.csv").read_text().splitlines()) == len(
        (tmp_path / "predictions.csv").read_text().splitlines()
    )
