"""Exported files against the libraries that they are for, and read back."""

from __future__ import annotations

import ast
import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from drawn_models import CLASSES, VIEW, drawn, noise
from torch import nn

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.errors import ExportError, MachineError, UsageError
from effnet_ft.export.exporting import export
from effnet_ft.export.formats import LIBRARIES
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.table import WEIGHTS
from effnet_ft.runs.run_folder import load_model

SYMMETRIC = {"padding": "symmetric", "norm_eps": 1e-5}

# Each format with every kind of model that it takes.
CASES = [
    ("timm", ".pth", "lite0", {}),
    ("timm", ".safetensors", "lite0", {}),
    ("timm", ".pth", "b0", {}),
    ("timm", ".safetensors", "b0", SYMMETRIC),
    ("timm", ".pth", "b0", {**SYMMETRIC, "norm_eps": 1e-3}),
    ("torchvision", ".pth", "b0", SYMMETRIC),
    ("torchvision", ".safetensors", "b0", SYMMETRIC),
    ("openmmlab", ".pth", "b0", {}),
    ("safetensors", ".safetensors", "lite0", {"head": "mlp"}),
    ("safetensors", ".safetensors", "b0", {**SYMMETRIC, "head": "cosine"}),
]
each_case = pytest.mark.parametrize(("form", "suffix", "variant", "settings"), CASES, ids=str)


@pytest.mark.parametrize("library", LIBRARIES)
def test_any_name_of_a_file_can_be_pasted(library: str) -> None:
    path = Path('C:\\new "models"\\lilás.pth')
    fits = SYMMETRIC if library == "torchvision" else {}
    usage = LIBRARIES[library](described("b0", **fits), path)
    texts = [node.value for node in ast.walk(ast.parse(usage)) if isinstance(node, ast.Constant)]
    assert str(path) in texts


def unallocated(variant: str, **settings: object) -> Classifier:
    with torch.device("meta"):
        return Classifier(variant, classes=CLASSES, **settings)


def run_usage(usage: str) -> nn.Module:
    """Run the code that loads an export, as a user would paste it."""
    names = {"timm": timm, "torchvision": torchvision, "torch": torch, "safetensors": safetensors}
    *lines, last = usage.splitlines()
    if not lines:
        return eval(last, names)
    exec(usage, names)
    return names["model"]


@torch.inference_mode()
def assert_same_logits(theirs: nn.Module, ours: Classifier) -> None:
    images = noise(3)
    expected = ours(images)
    assert expected.std(0).min() > 1e-3, "all images look alike to it: nothing would be seen"
    mean, std = (torch.tensor(values)[:, None, None] for values in (ours.preprocessing.mean, ours.preprocessing.std))
    torch.testing.assert_close(theirs.eval()((images - mean) / std), expected, rtol=1e-4, atol=1e-4)


# Other libraries


@pytest.mark.parametrize(
    ("form", "suffix", "variant", "settings"),
    [case for case in CASES if case[0] in ("timm", "torchvision")],
    ids=str,
)
def test_another_library_computes_the_same(
    tmp_path: Path, form: str, suffix: str, variant: str, settings: dict[str, object]
) -> None:
    model = drawn(variant, **settings)
    done = export(model, form, tmp_path / f"mine{suffix}")
    assert_same_logits(run_usage(done.usage), model)
    assert [path.name for path in tmp_path.iterdir()] == [f"mine{suffix}"]


def test_openmmlabs_names(tmp_path: Path) -> None:
    model = drawn("b0")
    export(model, "openmmlab", tmp_path / "mine.pth")
    file = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert file["meta"]["dataset_meta"]["classes"] == list(CLASSES)
    state = file["state_dict"]
    numbered = (key.split(".")[2:4] for key in state if key.startswith("backbone.layers."))
    blocks = {(int(layer), int(block)) for layer, block in numbered if block.isdigit()}
    # b0's seven stages have 1, 2, 2, 3, 3, 4 and 1 blocks; OpenMMLab puts the last four two and two.
    assert [sum(layer == number for layer, _ in blocks) for number in range(1, 6)] == [1, 2, 2, 6, 5]
    for theirs, ours in {
        "backbone.layers.0.conv.weight": "stages.0.0.weight",
        "backbone.layers.1.0.depthwise_conv.bn.running_var": "stages.1.0.block.0.1.running_var",
        "backbone.layers.4.3.se.conv1.conv.bias": "stages.5.0.block.2.fc1.bias",
        "backbone.layers.5.4.linear_conv.conv.weight": "stages.7.0.block.3.0.weight",
        "backbone.layers.6.bn.weight": "stages.8.1.weight",
        "head.fc.bias": "head.1.bias",
    }.items():
        assert torch.equal(state[theirs], model.state_dict()[ours]), theirs
    assert len(state) == len(model.state_dict())


def described(variant: str, padding: str = "same", norm_eps: float = 1e-3) -> dict[str, object]:
    told = {"variant": variant, "classes": list(CLASSES), "padding": padding, "norm_eps": norm_eps}
    return {**told, "preprocessing": VIEW.to_dict()}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("padding", "norm_eps"), [("same", 1e-3), ("symmetric", 1e-5)])
def test_timm_has_every_model(variant: str, padding: str, norm_eps: float) -> None:
    usage = LIBRARIES["timm"](described(variant, padding, norm_eps), Path("mine.pth"))
    with torch.device("meta"):
        model = run_usage(usage.replace(', checkpoint_path="mine.pth"', ""))
    assert {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {norm_eps}
    assert ("Same" in type(model.conv_stem).__name__) == (padding == "same")
    fewer = (1000 - len(CLASSES)) * (VARIANTS[variant].features + 1)
    assert sum(parameter.numel() for parameter in model.parameters()) == VARIANTS[variant].parameters - fewer


@pytest.mark.parametrize("name", [name for name in torchvision.models.list_models() if "efficientnet_b" in name])
def test_torchvision_takes_only_its_own_epsilon(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    (own,) = {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    variant, other = name.removeprefix("efficientnet_"), {1e-3: 1e-5, 1e-5: 1e-3}[own]
    usage = LIBRARIES["torchvision"](described(variant, "symmetric", own), Path("a.pth"))
    assert f"torchvision.models.{name}(num_classes=3)" in usage
    with pytest.raises(ExportError, match=f"batch-norm epsilon {own:g}, this model symmetric and {other:g}"):
        LIBRARIES["torchvision"](described(variant, "symmetric", other), Path("a.pth"))


@pytest.mark.parametrize("variant", ["b5", "lite0"])
def test_timm_is_told_another_epsilon(variant: str) -> None:
    usage = LIBRARIES["timm"](described(variant, "symmetric", 1e-3), Path("a.pth"))
    made = f'timm.create_model("efficientnet_{variant}", num_classes=3, bn_eps=0.001, checkpoint_path="a.pth")'
    assert usage == made


@pytest.mark.parametrize("variant", [name for name, variant in VARIANTS.items() if not variant.lite])
def test_openmmlab_knows_the_name(variant: str) -> None:
    known = {record.file.partition("_2022")[0] for record in WEIGHTS.values() if record.layout == "openmmlab"}
    usage = LIBRARIES["openmmlab"](described(variant), Path("mine.pth"))
    assert usage.split('"')[1] in known


# Reading back


def assert_same(model: Classifier, source: Classifier) -> None:
    assert model.describe() == source.describe()
    assert model.preprocessing == VIEW and model.classes == CLASSES and not model.training
    state = model.state_dict()
    assert state.keys() == source.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in source.state_dict().items())
    assert torch.equal(model.mean, source.mean) and torch.equal(model.std, source.std)


def read_by_create_model(file: Path, source: Classifier) -> Classifier:
    told = source.describe()
    return create_model(told["variant"], str(file), classes=CLASSES, head=told["head"])


@each_case
@pytest.mark.parametrize("read", [lambda file, _: load_model(file), read_by_create_model], ids=["load", "create"])
def test_every_export_is_read_back(
    tmp_path: Path,
    form: str,
    suffix: str,
    variant: str,
    settings: dict[str, object],
    read: Callable[[Path, Classifier], Classifier],
) -> None:
    source, file = drawn(variant, **settings), tmp_path / f"mine{suffix}"
    file.write_text("an older export")
    export(source, form, file)
    assert_same(read(file, source), source)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode, "whoever may read other files may read it"


def test_another_order_of_the_classes_is_not_taken_for_the_same(tmp_path: Path) -> None:
    source, file = drawn("lite0"), tmp_path / "mine.pth"
    export(source, "timm", file)
    model = create_model("lite0", str(file), classes=CLASSES[::-1])
    assert not torch.equal(model.head[-1].weight, source.head[-1].weight)
    assert torch.equal(model.stages[0][0].weight, source.stages[0][0].weight)


def test_an_export_may_be_named_as_the_other_librarys_files(tmp_path: Path) -> None:
    source, file = drawn("lite0"), tmp_path / "tf_efficientnet_lite0_flowers.pth"
    export(source, "timm", file)
    assert_same(create_model("lite0", str(file), classes=CLASSES), source)


def test_an_export_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = drawn("lite0")
    export(source, "timm", tmp_path / "mine.pth")
    assert_same(create_model("lite0", "~/mine.pth", classes=CLASSES), source)


def test_the_last_ending_decides_the_container(tmp_path: Path) -> None:
    done = export(drawn("b0", **SYMMETRIC), "torchvision", tmp_path / "mine.safetensors.pth")
    assert run_usage(done.usage)


# Refusals


@pytest.mark.parametrize(
    ("form", "name", "variant", "settings", "message"),
    [
        ("torchvision", "a.pth", "lite0", {}, "torchvision has no lite0: use --format timm or safetensors"),
        ("torchvision", "a.pth", "b8", {}, "torchvision has no b8"),
        ("torchvision", "a.pth", "b0", {}, "torchvision's b0 has symmetric padding and batch-norm epsilon 1e-05, this"),
        ("openmmlab", "a.pth", "lite0", {}, "OpenMMLab has no lite0"),
        ("openmmlab", "a.pth", "b0", SYMMETRIC, "OpenMMLab's b0 has same padding and batch-norm epsilon 0.001, this"),
        ("openmmlab", "a.safetensors", "b0", {}, "OpenMMLab does not read safetensors"),
        ("safetensors", "a.pth", "lite0", {}, "does not end in .safetensors"),
        *((form, "a.pth", "b0", {"head": "mlp"}, "the model's head is 'mlp'") for form in ("timm", "openmmlab")),
        ("timm", "a.safetensors", "lite0", {"head": "cosine"}, "head is 'cosine', timm has only a linear one"),
        ("torchvision", "a.pth", "b0", {**SYMMETRIC, "head": "mlp"}, "use --format safetensors"),
    ],
)
def test_a_refused_export_leaves_what_was_there(
    tmp_path: Path, form: str, name: str, variant: str, settings: dict[str, object], message: str
) -> None:
    model = unallocated(variant, **settings)
    for before in ([], [name]):
        for file in before:
            (tmp_path / file).write_text("precious")
        with pytest.raises((ExportError, UsageError)) as error:
            export(model, form, tmp_path / name)
        assert message in str(error.value)
        assert [path.name for path in tmp_path.iterdir()] == before
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "library", "function"),
    [("a.pth", torch, "save"), ("a.safetensors", Path, "write_bytes")],
    ids=["pth", "safetensors"],
)
def test_a_disk_that_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: object, function: str
) -> None:
    def fill(*arguments: object) -> None:
        path = next(some for some in arguments if isinstance(some, Path))
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(library, function, fill)
    (tmp_path / name).write_text("precious")
    with pytest.raises(MachineError, match="No space left"):
        export(drawn("lite0"), "timm", tmp_path / name)
    assert (tmp_path / name).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [name]


# The command line


def command(run: Path, form: str, out: Path) -> list[str]:
    return ["export", str(run), "--format", form, "--out", str(out)]


@pytest.mark.parametrize(
    ("form", "suffix"), [("timm", ".pth"), ("timm", ".safetensors"), ("safetensors", ".safetensors")]
)
def test_a_run_is_exported(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, suffix: str
) -> None:
    out = tmp_path / f"flowers{suffix}"
    assert main(command(trained_run, form, out)) == 0
    first, usage, *rest, last = capsys.readouterr().out.splitlines()
    source = effnet_ft.load(trained_run)
    assert last == "checked on 6 images of the test split: probabilities differ from the run's by at most 0"
    assert first == f"wrote {out}: {source.model.variant.name}, 3 classes; load it with"
    if form == "safetensors":
        assert usage == f'effnet_ft.load("{out}")' and rest == []
    else:
        assert_same_logits(run_usage(usage), source.model)
        view = source.preprocessing
        assert rest == [
            f"its input: RGB images of {view.size} px, (value - mean) / std on 0..255 with "
            f"mean {view.mean} and std {view.std}",
            f"divide its logits by {source.model.temperature:.4g} for calibrated probabilities",
        ]
    again = effnet_ft.load(out)
    assert (again.classes, again.preprocessing) == (source.classes, source.preprocessing)
    images = [noise(1)[0].byte().permute(1, 2, 0).numpy() for _ in range(2)]
    assert again.predict(images) == source.predict(images)


@pytest.mark.parametrize(
    ("form", "out", "message"),
    [
        ("torchvision", lambda folder: folder / "a.pth", "torchvision has no lite0"),
        ("safetensors", lambda folder: folder / "a.pth", "does not end in .safetensors"),
        ("timm", lambda folder: folder / "nowhere" / "a.pth", "cannot write"),
        ("timm", lambda folder: folder, "cannot write"),
    ],
    ids=["no such model", "wrong suffix", "no folder", "a folder"],
)
def test_mistakes(
    trained_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
    out: Callable[[Path], Path],
    message: str,
) -> None:
    assert main(command(trained_run, form, out(tmp_path))) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("effnet-ft: ") and message in captured.err and captured.out == ""
    assert list(tmp_path.iterdir()) == []
