"""Programs, ONNX and torch.export: what they compute, what they say of themselves, and how bad ones are refused."""

from __future__ import annotations

import copy
import csv
import json
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from drawn_models import CLASSES, VIEW, drawn
from pages import HOME
from PIL import Image

import effnet_ft
from effnet_ft import errors
from effnet_ft.cli import main
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.evaluation.evaluate import evaluate
from effnet_ft.export import exporting
from effnet_ft.export.exporting import export
from effnet_ft.export.formats import PROGRAMS
from effnet_ft.inference.backends import TorchExportBackend
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import VARIANTS
from effnet_ft.preprocessing import Preprocessing

RECORD = {"thresholds": [0.5, 0.25], "answered": [50, 100], "right": [50, 80]}

# Swish, squeeze-and-excitation and "same" padding; ReLU6 and symmetric padding; labels with thresholds.
MODELS: dict[str, Callable[[], Classifier]] = {
    "b0": lambda: drawn("b0", head="cosine", temperature=2.5, record=RECORD),
    "lite0": lambda: drawn("lite0", padding="symmetric", task="multi", thresholds=(0.25, 0.5, 0.625), temperature=0.75),
}
each_program = pytest.mark.parametrize("form", PROGRAMS)
each_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module", autouse=True)
def one_block_a_stage() -> Iterator[None]:
    """Half the layers, for half the time; every kind is still there."""
    with pytest.MonkeyPatch.context() as patch:
        for name in MODELS:
            patch.setitem(VARIANTS, name, replace(VARIANTS[name], depth=0.1))
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return the file of a model in a format; each is written once. Read only."""
    folder = tmp_path_factory.mktemp("programs")

    def file(name: str, form: str) -> Path:
        path = folder / f"{name}{PROGRAMS[form]}"
        if not path.exists():
            export(MODELS[name](), form, path)
        return path

    return file


Exported = Callable[[str, str], Path]


def pictures(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (90 + 7 * number, 100, 3), np.uint8) for number in range(count)]


@each_program
@each_model
@pytest.mark.parametrize("count", [1, 3])
def test_it_answers_as_the_original(exported: Exported, name: str, form: str, count: int) -> None:
    original, served = Predictor(MODELS[name]()), effnet_ft.load(exported(name, form))
    expected = original.probabilities(pictures(count))
    assert np.ptp(expected, axis=1).min() > 0.01, "all classes look alike to it: nothing would be seen"
    np.testing.assert_allclose(served.probabilities(pictures(count)), expected, atol=1e-5)
    again = original.model.probabilities(torch.from_numpy(served.logits(pictures(count)))).numpy()
    np.testing.assert_allclose(again, expected, atol=1e-5)
    assert [[label for label, _ in row] for row in served.predict(pictures(count))] == [
        [label for label, _ in row] for row in original.predict(pictures(count))
    ]


@each_program
@each_model
def test_it_is_measured_as_the_original(
    exported: Exported, name: str, form: str, flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = evaluate(Predictor(MODELS[name]()), scan_folder(flowers, for_training=False), "all", 8)
    outputs = ["--json", str(tmp_path / "metrics.json"), "--out", str(tmp_path / "answers.csv")]
    assert main(["evaluate", str(exported(name, form)), f"data.root={flowers}", *outputs]) == 0
    assert "36 images, all" in capsys.readouterr().out
    measured = json.loads((tmp_path / "metrics.json").read_text())
    assert measured.keys() == original.metrics.keys()
    certain = [key for key in measured if "ece" not in key]  # an image at the edge of a bin may move
    assert [measured[key] for key in certain] == pytest.approx([original.metrics[key] for key in certain], abs=1e-6)
    original.write_predictions(tmp_path / "expected.csv")
    told, expected = (
        list(csv.reader((tmp_path / f"{name}.csv").read_text().splitlines())) for name in ("answers", "expected")
    )
    assert [row[:3] for row in told] == [row[:3] for row in expected]


@each_program
@each_model
def test_it_says_what_the_model_says(exported: Exported, name: str, form: str) -> None:
    original, served = MODELS[name](), effnet_ft.load(exported(name, form))
    assert served.model.describe() == original.describe()
    assert (served.classes, served.preprocessing) == (CLASSES, VIEW)


def test_an_onnx_file_serves_without_this_project(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported("b0", "onnx"), providers=["CPUExecutionProvider"])
    (images,), (answers,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 3, 64, 64])
    assert (answers.name, answers.type, answers.shape) == ("probabilities", "tensor(float)", ["batch", 3])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["effnet_ft"])["classes"] == list(CLASSES)
    assert "the central square of 0.8000 of the short side is cropped, then resized to 64 px" in told["input"]
    assert "of the classes, rows sum to 1" in told["output"]
    batch = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64), np.uint8)
    (rows,) = session.run(None, {"images": batch})
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-5)


def test_the_script_of_the_page_answers_as_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = drawn("lite0", temperature=0.5, preprocessing=Preprocessing(64, 73, "bicubic", "timm"))
    export(model, "onnx", tmp_path / "photos.onnx")
    monkeypatch.chdir(tmp_path)
    for name, image in zip("ab", pictures(2), strict=True):
        Image.fromarray(image).save(f"{name}.jpg")
    blocks = re.findall(r"^```python\n(.*?)^```", (HOME / "docs" / "serving.md").read_text(), re.S | re.M)
    (script,) = (block for block in blocks if "import onnxruntime" in block)
    exec(script, {})
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    expected = Predictor(model).predict(["a.jpg", "b.jpg"], top_k=1)
    assert [name for name, _ in told] == [name for ((name, _),) in expected]
    np.testing.assert_allclose([float(value) for _, value in told], [value for ((_, value),) in expected], atol=1e-3)


def test_a_torch_program_serves_without_this_project(exported: Exported) -> None:
    told = {"effnet_ft": "", "input": ""}
    program = torch.export.load(exported("b0", "torch-export"), extra_files=told).module()
    assert json.loads(told["effnet_ft"])["classes"] == list(CLASSES) and "RGB" in told["input"]
    rows = program(torch.zeros(5, 3, 64, 64, dtype=torch.uint8))
    torch.testing.assert_close(rows.sum(1), torch.ones(5))


# Refusals


@pytest.mark.parametrize("wrong", [0.002, float("nan")])
def test_a_file_that_answers_otherwise_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    file = tmp_path / "mine.pt2"
    file.write_text("precious")

    def write(_: Classifier, path: Path) -> None:
        model = drawn("lite0")
        told = model.probabilities
        monkeypatch.setattr(model, "probabilities", lambda logits: told(logits) + wrong)
        real(model, path)

    real = exporting.write_torch_export
    monkeypatch.setattr(exporting, "write_torch_export", write)
    with pytest.raises(errors.ExportError, match=r"on 8 random images its probabilities differ .* up to (0.002|nan)"):
        export(drawn("lite0"), "torch-export", file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name] and file.read_text() == "precious"


def test_a_difference_below_the_limit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = TorchExportBackend.__call__
    monkeypatch.setattr(TorchExportBackend, "__call__", lambda self, images: real(self, images) + 0.0005)
    done = export(drawn("lite0"), "torch-export", tmp_path / "mine.pt2")
    assert done.difference == pytest.approx(0.0005, rel=0.01) and done.checked_on == "8 random images"


def changed(file: Path, target: Path, **told: str | None) -> Path:
    """Write a copy of an ONNX file whose metadata say something else."""
    model = onnx.load(file)
    kept = {entry.key: entry.value for entry in model.metadata_props} | told
    onnx.helper.set_model_props(model, {key: value for key, value in kept.items() if value is not None})
    onnx.save(model, target)
    return target


def described(file: Path, **changes: object) -> str:
    told = effnet_ft.load(file).model.describe()
    return json.dumps({key: value for key, value in (told | changes).items() if value is not None})


DAMAGED: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "text": (lambda file, target: target.write_text("no model"), "cannot be read as ONNX"),
    "empty": (lambda file, target: target.write_bytes(b""), "cannot be read as ONNX"),
    "cut short": (lambda file, target: target.write_bytes(file.read_bytes()[:5000]), "cannot be read as ONNX"),
    "someone else's": (lambda file, target: changed(file, target, effnet_ft=None), "was not written by effnet_ft"),
    "not JSON": (lambda file, target: changed(file, target, effnet_ft="{"), "its description cannot be read"),
    "no such variant": (
        lambda file, target: changed(file, target, effnet_ft=described(file, variant="b9")),
        "its description cannot be read",
    ),
    "a class too few": (
        lambda file, target: changed(file, target, effnet_ft=described(file, classes=["daisy", "tulip"])),
        "describes images of 64 px and 2 classes, but maps ['batch', 3, 64, 64] to ['batch', 3]",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_bad_onnx_file_is_told(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    make, message = DAMAGED[damage]
    make(exported("b0", "onnx"), tmp_path / "bad.onnx")
    assert main(["predict", str(tmp_path / "bad.onnx"), __file__]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"effnet-ft: {tmp_path / 'bad.onnx'} ") and message in error


def test_a_damaged_torch_program_is_told(exported: Exported, tmp_path: Path) -> None:
    content = exported("b0", "torch-export").read_bytes()
    place = content.index(b"model.json") + 2000
    (tmp_path / "bad.pt2").write_bytes(content[:place] + b"#" * 500 + content[place + 500 :])
    with pytest.raises(errors.WeightsError, match=r"bad.pt2 is a damaged program of torch.export"):
        effnet_ft.load(tmp_path / "bad.pt2")


def test_no_program_is_run_that_its_name_does_not_announce(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(exported("b0", "torch-export").read_bytes())
    with pytest.raises(errors.WeightsError, match=r"weights.pth is a zip archive, but not of weights"):
        effnet_ft.load(tmp_path / "weights.pth")


@each_program
def test_a_program_runs_on_the_cpu_alone(exported: Exported, form: str) -> None:
    assert effnet_ft.load(exported("b0", form), device="cpu").device.type == "cpu"
    with pytest.raises(errors.WeightsError, match="is a program for the CPU, not for 'cuda': load the run"):
        effnet_ft.load(exported("b0", form), device="cuda")


@pytest.mark.parametrize(
    "look",
    [
        lambda served: served.logits_from(np.zeros((1, 1280), np.float32), 9),
        lambda served: list(served.explain(pictures(1))),
    ],
    ids=["at a stage", "explain"],
)
def test_a_program_has_no_layers_to_look_into(exported: Exported, look: Callable[[Predictor], object]) -> None:
    with pytest.raises(errors.WeightsError, match="has no accessible layers: use the run"):
        look(effnet_ft.load(exported("b0", "onnx")))


def test_a_program_that_cannot_be_explained_prints_no_table(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    out = tmp_path / "explained"
    assert main(["explain", str(exported("b0", "onnx")), str(tmp_path / "a.png"), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "use the run" in printed.err and not out.exists()


@each_program
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda served: pickle.loads(pickle.dumps(served))], ids=["deepcopy", "pickle"]
)
def test_a_predictor_of_a_program_can_be_copied_and_pickled(
    exported: Exported, form: str, copied: Callable[[Predictor], Predictor]
) -> None:
    served = effnet_ft.load(exported("b0", form))
    np.testing.assert_array_equal(copied(served).probabilities(pictures(2)), served.probabilities(pictures(2)))
