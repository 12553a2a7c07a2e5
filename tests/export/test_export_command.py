"""``effnet-ft export`` of a run: what it tells, what it checks on, and mistakes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from effnet_ft.cli import main
from effnet_ft.export.formats import PROGRAMS


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_extra_is_named(
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(trained_run), "--format", "onnx", "--out", str(tmp_path / "a.onnx")]) == 2
    assert f"ONNX needs {package}, which is not installed: pip install 'effnet_ft[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def command(run: Path, form: str, out: Path, *more: str) -> list[str]:
    return ["export", str(run), "--format", form, "--out", str(out), *more]


def test_a_run_becomes_a_program(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "flowers.pt2"
    assert main(command(trained_run, "torch-export", out)) == 0
    first, usage, *rest, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"wrote {out}: lite0, 3 classes;") and usage == f'effnet_ft.load("{out}")'
    assert rest[0].startswith(
        "or use it in another program: it takes RGB images, uint8 [N, 3, 64, 64], 0..255, not normalised"
    )
    assert last.startswith("checked on 6 images of the test split: probabilities differ from the run's by at most")
    answers = []
    for model in (trained_run, out):
        assert main(["predict", str(model), str(flowers), "--top-k", "1"]) == 0
        answers.append([line.rsplit(",", 1)[0] for line in capsys.readouterr().out.splitlines()])
    assert len(answers[0]) == 37 and answers[0] == answers[1]


def test_images_that_are_gone_are_replaced_by_drawn_ones(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in ("recipe.yaml", "split.csv", "checkpoints"):
        (run / file).symlink_to(trained_run / file)
    (run / "recipe.yaml").unlink()
    recipe = (trained_run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("flowers", "nowhere"))
    assert main(command(run, "safetensors", tmp_path / "a.safetensors")) == 0
    assert "checked on 8 random images" in capsys.readouterr().out
    assert main(command(run, "safetensors", tmp_path / "b.safetensors", f"data.root={tmp_path}")) == 2
    assert "of the run not found in" in capsys.readouterr().err
    assert main(command(run, "safetensors", tmp_path / "b.safetensors", "data.image_size=96")) == 2
    assert "only data.root and data.images can be set" in capsys.readouterr().err
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("form", PROGRAMS)
def test_an_ending_that_misleads(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    assert main(command(tmp_path, form, tmp_path / "a.pth")) == 2
    assert f"does not end in {PROGRAMS[form]}" in capsys.readouterr().err
