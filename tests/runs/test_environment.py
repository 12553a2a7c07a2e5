"""What is noted of versions and machine."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from effnet_ft.runs.environment import record_start


def test_every_start_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    record_start(path)
    record_start(path)
    first, second = json.loads(path.read_text())
    assert first["versions"]["torch"] == torch.__version__
    assert second["machine"]["cores"] >= 1 and second["machine"]["memory"] > 2**28
    assert first["time"] <= second["time"]


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    path.write_text('[{"time": ')
    record_start(path)
    assert len(json.loads(path.read_text())) == 1
