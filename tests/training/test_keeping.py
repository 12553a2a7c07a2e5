"""When several processes ask each other whether to write or to stop; what is written is in ``test_resume.py``."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from effnet_ft.errors import Interrupted
from effnet_ft.results.run import Run
from effnet_ft.training import keeping
from effnet_ft.training.keeping import Keeper
from effnet_ft.training.stopping import SIGNALS, Stop


def several(accumulate: int = 1) -> Any:
    return SimpleNamespace(world_size=2, is_last_batch=False, accumulate_grad_batches=accumulate, current_epoch=0)


@pytest.mark.parametrize(
    ("accumulate", "expected"),
    [(1, [10, 20, 30, 40]), (3, [9, 18, 27, 36]), (4, [8, 16, 24, 32, 40]), (7, [7, 14, 21, 28, 35]), (16, [16, 32])],
)
def test_processes_ask_each_other_about_every_ten_batches(
    accumulate: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes = []

    def anyones(trainer: Any, flags: Sequence[bool]) -> list[bool]:
        votes.append(batch + 1)
        return list(flags)

    monkeypatch.setattr(keeping, "_anyones", anyones)
    keeper, none = Keeper(Run(tmp_path), Stop()), SimpleNamespace()
    for batch in range(40):
        keeper.on_train_batch_end(several(accumulate), none, None, None, batch)  # type: ignore[arg-type]
    assert votes == expected


def test_a_signal_that_one_process_gets_at_the_end_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [number == signal.SIGTERM for number in SIGNALS]
    monkeypatch.setattr(keeping, "_anyones", lambda trainer, flags: others)
    with pytest.raises(Interrupted) as raised:
        Keeper(Run(tmp_path), Stop()).on_train_end(several(), SimpleNamespace())  # type: ignore[arg-type]
    assert raised.value.number == signal.SIGTERM
