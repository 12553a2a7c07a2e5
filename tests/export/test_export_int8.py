"""ONNX in 8-bit integers: what it computes, what is measured, when it is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from drawn_models import drawn

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.splits.split import Split, make_split
from effnet_ft.errors import ExportError
from effnet_ft.export import int8
from effnet_ft.export.int8 import Int8Result, export_int8
from effnet_ft.models.variants import VARIANTS


@pytest.fixture
def split(flowers: Path) -> Split:
    return make_split(scan_folder(flowers), val_fraction=0.2, test_fraction=0.2, seed=0)


def test_a_run_becomes_integers(
    trained_run: Path, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "flowers.onnx"
    assert main(["export", str(trained_run), "--format", "onnx", "--int8", "--out", str(out)]) == 0
    first, usage, told = capsys.readouterr().out.splitlines()
    assert first.startswith(f"wrote {out}: lite0, 3 classes;") and usage == f'effnet_ft.load("{out}")'
    assert told.startswith("measured on 6 images of the test split: accuracy ") and re.search(
        r" \d+\.\d points (lost|gained); ", told
    )
    assert [file.name for file in tmp_path.iterdir()] == ["flowers.onnx"]
    weights = onnx.load(out).graph.initializer
    convolutions = [weight for weight in weights if len(weight.dims) == 4]
    assert {weight.data_type for weight in convolutions} <= {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}
    integers = [weight for weight in convolutions if weight.data_type == onnx.TensorProto.INT8]
    assert len(integers) == 49, "the convolutions of lite0, quantised each"
    scales = {weight.name: list(weight.dims) for weight in weights}
    stem = next(weight for weight in integers if list(weight.dims) == [32, 3, 3, 3])
    assert scales[stem.name.replace("_quantized", "_scale")] == [32], "a scale for each channel"
    described = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"]).get_modelmeta()
    assert json.loads(described.custom_metadata_map["effnet_ft"])["variant"] == "lite0"
    original, served = effnet_ft.load(trained_run), effnet_ft.load(out)
    images = sorted(flowers.rglob("*.jpg"))
    before, after = original.probabilities(images), served.probabilities(images)
    assert 1e-4 < abs(before - after).max() < 0.25
    assert (before.argmax(1) == after.argmax(1)).mean() > 0.9
    np.testing.assert_allclose(after.sum(1), 1, atol=1e-5)
    assert len(np.unique(after)) > 0.5 * after.size, "probabilities and logits are no multiples of a 255th"


def test_too_high_a_cost_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: Split) -> None:
    monkeypatch.setitem(VARIANTS, "b0", replace(VARIANTS["b0"], depth=0.1))
    measured: list[Int8Result] = []

    def found(*arguments: object) -> Int8Result:
        measured.append(real(*arguments))
        return replace(measured[0], before=0.9, after=0.8, images=100)

    real: Callable[..., Int8Result] = int8._measure
    monkeypatch.setattr(int8, "_measure", found)
    (tmp_path / "mine.onnx").write_text("precious")
    with pytest.raises(ExportError, match=r"falls from 0.900 to 0.800, more than 0.05: swish and .* leave --int8 out"):
        export_int8(drawn("b0", task="multi"), tmp_path / "mine.onnx", replace(split, multilabel=True))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]
    assert (tmp_path / "mine.onnx").read_text() == "precious"
    assert measured[0].part == "test" and measured[0].images == 6 and 0 <= measured[0].agreement <= 1


@pytest.mark.parametrize(
    ("after", "images", "refused"), [(0.86, 1000, False), (0.84, 1000, True), (0.7, 10, False), (0.6, 10, True)]
)
def test_what_is_refused(after: float, images: int, refused: bool) -> None:
    assert Int8Result("", 0.9, after, 1.0, "test", images).refused == refused


@pytest.mark.parametrize(
    ("model", "form", "name", "message"),
    [
        ("run", "torch-export", "a.pt2", "--int8 writes ONNX files, not torch-export: use --format onnx"),
        ("checkpoint", "onnx", "a.onnx", "is a model file without images: give the run folder"),
    ],
)
def test_mistakes(
    trained_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    form: str,
    name: str,
    message: str,
) -> None:
    run = trained_run if model == "run" else trained_run / "checkpoints" / "best.ckpt"
    assert main(["export", str(run), "--format", form, "--int8", "--out", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []
