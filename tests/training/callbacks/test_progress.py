"""The progress bar as a terminal shows it."""

from __future__ import annotations

import fcntl
import pty
import re
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from threading import Thread

import pytest
from tiny import TINY

from effnet_ft.cli import main


@contextmanager
def terminal(width: int) -> Iterator[list[str]]:
    """Make standard output a terminal of so many columns and list what is written to it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    written: list[str] = []

    def read() -> None:
        with suppress(OSError), open(ours, newline="", encoding="utf-8") as file:  # an error at the end of the terminal
            while text := file.read(1):
                written.append(text)

    reader = Thread(target=read)
    reader.start()
    with open(theirs, "w", encoding="utf-8") as file, redirect_stdout(file):
        yield written
    reader.join()


def screen(output: str) -> list[str]:
    """Return the lines that a terminal shows after ``output``."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[A|.", output, re.S):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\x1b[A":
            row -= 1
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize(("width", "shown"), [(80, "acc="), (110, "data wait=")])
def test_bars_fit_their_line_and_leave_nothing_behind(width: int, shown: str, flowers: Path, tmp_path: Path) -> None:
    phases = "phases=[{train: head, epochs: 2, lr: 1e-2}, {train: stage7, epochs: 1, lr: 1e-3}]"
    with terminal(width) as written:
        assert main(["train", "folder", f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", phases, *TINY]) == 0
    output = "".join(written)
    bars = [bar.strip() for bar in re.split(r"[\r\n]", output) if re.match("phase.*%\\|.*=", bar)]
    assert bars and all(len(bar) <= width for bar in bars)
    assert any(bar.startswith("phase 2/2 stage7 epoch 1/1: 100%") for bar in bars)
    assert all(re.search(r"%\|.{4,}\| +[\d:?]+, loss=[\d.]+, acc=[\d.]+", bar) for bar in bars)
    assert all(shown in bar and re.search(r"=[\d.]+%?$", bar) for bar in bars)
    assert any(line.startswith("phase 2/2 stage7 epoch 1/1  loss") for line in screen(output))
    assert not [line for line in screen(output) if "%|" in line]
