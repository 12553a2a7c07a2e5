"""What an interrupted run and one that was not must have in common."""

from __future__ import annotations

import csv
import json
from typing import Any

import torch

from effnet_ft.runs.run_folder import Run, read_checkpoint

TIMED = ("seconds", "images_per_second", "data_wait_fraction", "train_seconds")


def assert_same(run: Run, whole: Run) -> None:
    """Compare all that two runs left, but for their timings."""
    for name in ("last", "best"):
        ours, theirs = (read_checkpoint(getattr(each, name)) for each in (run, whole))
        different = [
            key for key, value in theirs["state_dict"].items() if not torch.equal(value, ours["state_dict"][key])
        ]
        assert different == [], name
        assert (ours["effnet_ft"]["phase"], ours["epoch"]) == (theirs["effnet_ft"]["phase"], theirs["epoch"])
    assert run.predictions.read_text() == whole.predictions.read_text()
    assert untimed(run) == untimed(whole)
    files = [sorted(str(path.relative_to(each.folder)) for path in each.folder.rglob("*")) for each in (run, whole)]
    assert files[0] == files[1]


def untimed(run: Run) -> tuple[list[dict[str, str]], dict[str, Any]]:
    with run.table.open() as file:
        rows = [{name: value for name, value in row.items() if name not in TIMED} for row in csv.DictReader(file)]
    metrics = json.loads(run.metrics.read_text())
    return rows, {name: value for name, value in metrics.items() if name not in TIMED}
