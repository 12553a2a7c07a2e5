"""Files that are written whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from effnet_ft.utils.atomic_files import atomic_write_text


def test_a_file_is_open_for_writing_when_it_is_forced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    forced = []

    def fsync(number: int) -> None:
        if stat.S_ISREG(os.fstat(number).st_mode):  # the folder is opened as it can be
            forced.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write_text(tmp_path / "a.txt", "whole")
    assert forced == [os.O_RDWR], "Windows refuses to force what is open for reading alone"
    assert (tmp_path / "a.txt").read_text() == "whole"
