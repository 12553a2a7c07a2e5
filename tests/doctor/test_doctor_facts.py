"""Facts are found on this machine, and what is broken is told and stops nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import pytest

from effnet_ft.cli import main
from effnet_ft.doctor import facts
from effnet_ft.doctor.facts import Facts, Libraries
from effnet_ft.doctor.loading import LIBRARIES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules are found before all others by the process that loads the libraries."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for name in LIBRARIES:
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def test_every_fact_is_looked_up() -> None:
    assert set(facts.PROBES) == {item.name for item in fields(Facts)} - {"unknown"}


def test_the_libraries_of_this_machine_work() -> None:
    found = facts.probe_libraries()
    assert found.faults == found.failed == {} and found.died == found.gloo == ""
    assert f"PyTorch version: {metadata.version('torch')}" in found.collect_env


def test_torchvision_for_another_torch_breaks_everything(
    fakes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fakes / "torch.py").write_text("class version:\n    cuda = None\n")
    (fakes / "torchvision.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    assert main(["doctor", "--json", str(tmp_path / "report.json")]) == 2
    printed = capsys.readouterr()
    assert "do not fit each other" in printed.err and "do not fit each other" in printed.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["facts"]["versions"]["torch"] == metadata.version("torch")
    assert [finding["broken"] for finding in report["findings"]].count(True) == 1


def test_a_library_that_kills_python_is_named(fakes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fakes / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert main(["doctor"]) == 2
    assert "importing torch ended Python by SIGSEGV" in capsys.readouterr().err


def test_a_library_that_hangs_is_named(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes / "cv2.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setattr(facts, "TIMEOUT_SECONDS", 2)
    assert facts.probe_libraries().died == "importing cv2 took longer than 2 s"


def test_the_report_comes_where_no_library_works(fakes: Path) -> None:
    for name in LIBRARIES:
        (fakes / f"{name.partition('.')[0]}.py").write_text("raise ImportError('damaged')")
    (fakes / "packaging.py").write_text("raise SystemError('damaged')")
    environment = {**os.environ, "PYTHONPATH": f"{fakes}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "effnet_ft", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=fakes)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "omegaconf cannot be imported" in done.stderr and "torch cannot be imported" in done.stderr
    assert "SystemError: damaged" in done.stdout


def test_what_needs_a_broken_library_is_not_blamed(fakes: Path) -> None:
    (fakes / "numpy.py").write_text("raise ImportError('damaged')")
    (fakes / "torch.py").write_text("raise OSError('libcudart.so: cannot open')")
    assert facts.probe_libraries().faults == {
        "numpy": "ImportError: damaged",
        "torch": "OSError: libcudart.so: cannot open",
    }


def test_a_probe_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ZeroDivisionError("nothing is known")

    monkeypatch.setattr(facts, "PROBES", dict.fromkeys(facts.PROBES, fail))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.count("ZeroDivisionError: nothing is known") == len(facts.PROBES)


def test_findings_among_other_lines() -> None:
    text = 'hello\n{"at": "looking for GPUs"}\n3\n{"at": "using GPU 1", "gpus": [{"name": "L4"}]}\n{"x": 1}'
    assert facts.parse_report(text, "ended") == Libraries(gpus=[{"name": "L4"}], died="using GPU 1 ended")
    assert facts.parse_report('{"at": "done"}') == Libraries()


def test_unmet_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=999", "no-such-package>=1", "numpy>=1", "pytest>=999; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)
    assert facts.unmet_requirements() == [
        f"torch>=999 ({metadata.version('torch')} is installed)",
        "no-such-package>=1 (not installed)",
    ]


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    found = facts.folder(tmp_path / "deep" / "er")
    assert found.writable and found.free > 0 and found.path == str(tmp_path / "deep" / "er")
    (tmp_path / "file").touch()
    assert not facts.folder(tmp_path / "file" / "er").writable
