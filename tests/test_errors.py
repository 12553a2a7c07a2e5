"""What the user reads, however it travelled."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from effnet_ft.cli import main
from effnet_ft.errors import DivergedError, RecipeError


@pytest.mark.parametrize("error", [RecipeError(["one", "two"], "folder"), DivergedError("the loss is nan")])
def test_an_error_of_another_process_says_the_same(error: RecipeError) -> None:
    error.shared = True
    told = pickle.loads(pickle.dumps(error))
    assert (type(told), str(told), told.faults, told.shared) == (type(error), str(error), error.faults, True)


def test_a_disk_that_is_full_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "models.md")

    monkeypatch.setattr("effnet_ft.commands.recipes.run", full)
    assert main(["recipes"]) == 2
    assert capsys.readouterr().err == (
        "effnet-ft: cannot write or read 'models.md' (No space left on device): make room\n"
    )
