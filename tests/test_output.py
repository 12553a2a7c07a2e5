"""Output that is closed, unread, or in another encoding ends no work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.runs.run_folder import Run

ROOT = Path(__file__).parent.parent


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **options.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run(command, cwd=ROOT, capture_output=True, env=environment, **options)  # type: ignore[call-overload]


def test_a_training_goes_on_where_its_reader_leaves(flowers: Path, tmp_path: Path) -> None:
    settings = [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", "phases=[{train: head, epochs: 3, lr: 1e-2}]"]
    command = [sys.executable, "train.py", "folder", *settings, *TINY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None and process.stdout.readline()
        process.stdout.close()
    assert process.returncode == 0
    assert "test/acc1" in json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "epoch 3/3" in (tmp_path / "run" / "log.txt").read_text()


def test_an_unfinished_run_is_told(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(shutil.copytree(trained_run, tmp_path / "run"))
    image = str(next(flowers.glob("*/*.jpg")))
    commands = [
        *(["evaluate", str(run.folder)], ["report", str(run.folder)], ["predict", str(run.best), image]),
        ["explain", str(run.folder), image, "--out", str(tmp_path / "explained")],
        ["export", str(run.folder), "--format", "safetensors", "--out", str(tmp_path / "model.safetensors")],
    ]
    for command in commands:
        assert main(command) == 0
        assert "unfinished" not in capsys.readouterr().err
    run.metrics.unlink()
    run.table.write_text("".join(run.table.read_text().splitlines(keepends=True)[:3]))
    told = f"effnet-ft: {run.folder} is unfinished: trained up to epoch 2 of phase 1; resume={run.folder} resumes it\n"
    for command in commands:
        assert main(command) == (2 if command[0] == "report" else 0)
        assert capsys.readouterr().err.startswith(told)
    run.table.unlink()
    main(commands[0])
    assert "no epoch trained" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output(closed: str, tmp_path: Path) -> None:
    assert run(["sh", "-c", f"{sys.executable} -m effnet_ft recipes {closed}"]).returncode == 0
    failed = run(["sh", "-c", f"{sys.executable} -m effnet_ft check {tmp_path / 'gone'} {closed}"])
    assert failed.returncode == 2 and b"Traceback" not in failed.stderr


def test_names_that_the_terminal_cannot_write(trained_run: Path, flowers: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b\u00e4ume"
    folder.mkdir()
    (folder / "\u65e5.jpg").write_bytes(next(flowers.glob("*/*.jpg")).read_bytes())
    command = [sys.executable, "-m", "effnet_ft", "predict", str(trained_run), str(folder)]
    done = run(command, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert b"\\u65e5.jpg" in done.stdout
    gone = run([*command[:-1], str(folder / "gone.jpg")], env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert gone.returncode == 2 and b"Traceback" not in gone.stderr
