"""Files of weights: every wrapper and container that is about, and every way in which a file is broken."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save, save_file
from tiny import TINY
from torch import Tensor, nn
from trap import Trap

from effnet_ft.cli import main
from effnet_ft.errors import WeightsError
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.download import MIRROR_VARIABLE
from effnet_ft.models.weights.files import DESCRIPTION, read_description, read_weights
from effnet_ft.models.weights.key_maps import from_our_keys
from effnet_ft.models.weights.table import WEIGHTS

State = dict[str, Tensor]

save_legacy = partial(torch.save, _use_new_zipfile_serialization=False)

# Wrappers


def few() -> State:
    """Return tensors of the kinds that a state dict has, under keys that begin like no wrapper's."""
    torch.manual_seed(0)
    return {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4).half(), "b.num_batches_tracked": torch.tensor(7)}


def below(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def moved(state: State) -> State:
    """Return what is no average: other numbers under the same keys."""
    return {key: value + 1 for key, value in state.items()}


OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
ARGUMENTS = Namespace(model="tf_efficientnet_b0", lr=0.1, mean=None, scale=[0.08, 1.0])
WRAPPED: dict[str, tuple[str, Callable[[State], dict[str, object]]]] = {
    "bare": ("", lambda state: state),
    "ordered": ("", OrderedDict),
    "DataParallel": ("", lambda state: below("module.", state)),
    "DataParallel of a wrapper": ("", lambda state: below("module.model.", state)),
    "torch.compile": ("", lambda state: below("_orig_mod.", state)),
    "Lightning and torch.compile": ("state_dict", lambda state: {"state_dict": below("model._orig_mod.", state)}),
    "model": ("model", lambda state: {"model": state, "epoch": 3, "optimizer": OPTIMIZER}),
    "Lightning": (
        "state_dict",
        lambda state: {
            "state_dict": below("model.", state),
            "epoch": 3,
            "optimizer_states": [OPTIMIZER],
            "hyper_parameters": {"lr": 0.1},
        },
    ),
    "OpenMMLab": ("state_dict", lambda state: {"meta": {"epoch": 3, "CLASSES": ["a", "b"]}, "state_dict": state}),
    "timm": (
        "state_dict",
        lambda state: {"epoch": 3, "arch": "b0", "state_dict": state, "optimizer": OPTIMIZER, "args": ARGUMENTS},
    ),
    "timm, averaged": (
        "state_dict_ema",
        lambda state: {"state_dict": moved(state), "args": ARGUMENTS, "state_dict_ema": state, "metric": 77.7},
    ),
    "timm, no average": ("state_dict", lambda state: {"state_dict": state, "state_dict_ema": None}),
    "torchvision": ("model", lambda state: {"model": state, "optimizer": OPTIMIZER, "args": ARGUMENTS, "scaler": {}}),
    "torchvision, averaged": (
        "model_ema",
        lambda state: {
            "model": moved(state),
            "args": ARGUMENTS,
            "model_ema": {"n_averaged": torch.tensor(9), **below("module.", state)},
        },
    ),
}


def assert_same(read: State, state: State) -> None:
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], value) and read[key].dtype == value.dtype for key, value in state.items())


@pytest.mark.parametrize("container", [torch.save, save_legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers(wrapper: str, container: Callable[..., None], tmp_path: Path) -> None:
    state, (part, wrap) = few(), WRAPPED[wrapper]
    container(wrap(state), tmp_path / "file.pth")
    read = read_weights(tmp_path / "file.pth")
    assert_same(read.state, state)
    assert (read.part, read.description) == (part, None)


@pytest.mark.parametrize("ending", [".pth", ".pt", ".ckpt", ".bin", ""])
@pytest.mark.parametrize("container", [torch.save, save_legacy, save_file], ids=["zip", "legacy", "safetensors"])
def test_the_content_tells_the_container_not_the_ending(
    container: Callable[..., None], ending: str, tmp_path: Path
) -> None:
    container(below("module.", few()), tmp_path / f"file{ending}")
    assert_same(read_weights(tmp_path / f"file{ending}").state, few())


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod."])
def test_a_beginning_that_not_every_key_has_is_no_prefix(prefix: str, tmp_path: Path) -> None:
    state = {**below(prefix, few()), "other": torch.zeros(1)}
    torch.save(state, tmp_path / "file.pth")
    assert_same(read_weights(tmp_path / "file.pth").state, state)


# Descriptions

OWN = {"variant": "lite0", "classes": ["ä", "b"], "norm_eps": 1e-5}


def described(state: State) -> OrderedDict[str, Tensor]:
    """Return a bare state dict with the description on it, where no reader of state dicts sees it."""
    plain = OrderedDict(state)
    setattr(plain, DESCRIPTION, OWN)
    return plain


DESCRIBED: dict[str, Callable[[State, Path], None]] = {
    "checkpoint": lambda state, file: torch.save({"state_dict": state, DESCRIPTION: {"phase": 0, "model": OWN}}, file),
    "entry": lambda state, file: torch.save({"state_dict": state, DESCRIPTION: OWN}, file),
    "attribute": lambda state, file: torch.save(described(state), file),
    "meta": lambda state, file: torch.save({"state_dict": state, "meta": {DESCRIPTION: OWN}}, file),
    "safetensors": lambda state, file: save_file(state, file, {DESCRIPTION: json.dumps(OWN), "format": "pt"}),
}


@pytest.mark.parametrize("place", DESCRIBED)
def test_descriptions(place: str, tmp_path: Path) -> None:
    DESCRIBED[place](few(), tmp_path / "file")
    read = read_weights(tmp_path / "file")
    assert read.description == read_description(tmp_path / "file") == OWN
    assert_same(read.state, few())


def test_files_of_others_have_no_description(tmp_path: Path) -> None:
    save_file(few(), tmp_path / "file.safetensors", {"format": "pt"})
    torch.save({"state_dict": few(), "meta": {"epoch": 1}}, tmp_path / "file.pth")
    assert read_description(tmp_path / "file.safetensors") is read_description(tmp_path / "file.pth") is None


# No weights at all


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(1)], "a list"),
        (torch.zeros(1), "a Tensor"),
        ({}, "nothing"),
        ({"a": 1, "b": "text"}, r"a \(int\), b \(str\)"),
        ({"state_dict": {}, "epoch": 1}, r"state_dict \(dict\), epoch \(int\)"),
        ({**few(), "lr": 0.1}, r"a\.weight \(Tensor\)"),
        (OPTIMIZER, r"state \(dict\), param_groups \(list\)"),
        ({0: torch.zeros(1)}, r"0 \(Tensor\)"),
        ({"model": {0: torch.zeros(1)}}, r"model \(dict\)"),
    ],
    ids=["list", "tensor", "nothing", "values", "empty", "mixed", "optimizer", "numbers for names", "below model"],
)
def test_content_that_is_no_state_dict(content: object, found: str, tmp_path: Path) -> None:
    file = tmp_path / "file.pth"
    torch.save(content, file)
    with pytest.raises(WeightsError, match=rf"^{file} holds no state dict: expected tensors by name, found {found}"):
        read_weights(file)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read .*gone\.pth: No such file"):
        read_weights(tmp_path / "gone.pth")


def save_pickle(value: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("container", [torch.save, save_legacy, save_pickle], ids=["zip", "legacy", "pickle"])
@pytest.mark.parametrize("read", [read_weights, read_description])
def test_code_in_a_file_does_not_run(
    container: Callable[..., None], read: Callable[[Path], object], tmp_path: Path
) -> None:
    file, mark = tmp_path / "file.pth", tmp_path / "mark"
    container({"state_dict": few(), "args": Trap(mark)} if container is not save_pickle else {"a": Trap(mark)}, file)
    with pytest.raises(WeightsError, match=r"would run code when it is read.*nothing in it was run"):
        read(file)
    assert not mark.exists()
    torch.load(file, weights_only=False) if container is not save_pickle else pickle.loads(file.read_bytes())
    assert mark.exists(), "the trap is none"


# Broken files, as a user meets them


@pytest.fixture(scope="module")
def lite0() -> State:
    """A whole file of timm's names, three classes."""
    torch.manual_seed(0)
    state = Classifier("lite0", classes="abc").state_dict()
    theirs = from_our_keys(state, VARIANTS["lite0"], "timm")
    return {key: value.contiguous() for key, value in theirs.items()}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, flowers: Path) -> Path:
    """The fewest images that can be split, of two classes."""
    root = tmp_path_factory.mktemp("photographs")
    for name in ("daisy", "tulip"):
        (root / name).mkdir()
        for path in sorted((flowers / name).iterdir())[:3]:
            (root / name / path.name).symlink_to(path)
    return root


@pytest.fixture
def refused(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Train from a file that must be refused: exit code 2, one message that names it, no run folder, no download."""
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "no mirror"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))

    def train(file: Path, variant: str = "lite0", family: str = "lite") -> str:
        model = [f"model.variant={variant}", f"model.weights={file}", f"model.family={family}"]
        run = [f"run_dir={tmp_path / 'run'}", "phases=[{train: head, epochs: 1, lr: 1e-3}]"]
        assert main(["train", "folder", f"data.root={photographs}", *model, *run, *TINY]) == 2
        error = capsys.readouterr().err
        assert error.startswith("effnet-ft: ") and error.count("effnet-ft: ") == 1 and "Traceback" not in error
        assert file.name in error
        assert not (tmp_path / "run").exists()
        return error

    return train


def cut(container: Callable[..., None], share: float, state: State, file: Path) -> None:
    container(state, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])


def changed(change: Callable[[str, Tensor], tuple[str, Tensor]], state: State, file: Path) -> None:
    torch.save(dict(change(key, value) for key, value in state.items()), file)


def spoilt(key: str, value: float, state: State, file: Path) -> None:
    state = {name: tensor.clone() for name, tensor in state.items()}
    state[key].view(-1)[-1] = value
    torch.save(state, file)


def zipped(names: tuple[str, ...], state: State, file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "content")


def written(content: bytes, state: State, file: Path) -> None:
    file.write_bytes(content)


def foreign(state: State, file: Path) -> None:
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), file)


DAMAGED = "it is cut short or damaged, with "
BROKEN: dict[str, tuple[Callable[[State, Path], None], tuple[str, ...]]] = {
    **{
        f"{name} cut to {share}": (partial(cut, container, share), messages)
        for name, container, messages in (
            ("zip", torch.save, (DAMAGED, " bytes", "get it again")),
            ("legacy", save_legacy, (DAMAGED, " bytes", "get it again")),
            ("safetensors", save_file, ("cannot be read as safetensors", "get it again")),
        )
        for share in (0.001, 0.5, 0.999)
    },
    "renamed keys": (
        partial(changed, lambda key, value: (key.replace("bn1", "norm1"), value)),
        (
            "does not hold lite0 in timm layout",
            "68 missing keys:\n  blocks.",
            "85 unknown keys:\n  norm1.weight",
        ),
    ),
    "other names": (
        partial(changed, lambda key, value: (f"network.{key}", value)),
        ("not those of an EfficientNet in any known layout", "openmmlab, timm,", "  network.conv_stem.weight\n"),
    ),
    "transposed kernels": (
        partial(changed, lambda key, value: (key, value.transpose(0, 1).contiguous() if value.ndim == 4 else value)),
        ("it does not fit: ", " different shapes\n  stages.0.0.weight: (3, 32, 3, 3), the model has (32, 3, 3, 3)\n"),
    ),
    "not a number": (
        partial(spoilt, "blocks.3.1.conv_pw.weight", float("nan")),
        ("NaN or infinity in 1 tensor: damaged", "  stages.4.1.block.0.0.weight\n"),
    ),
    "infinity": (
        partial(spoilt, "bn2.running_var", float("inf")),
        ("NaN or infinity in 1 tensor: damaged", "  stages.8.1.running_var\n"),
    ),
    "another network": (foreign, ("its keys are not those of an EfficientNet", "  conv1.weight\n")),
    "page": (partial(written, b"<!DOCTYPE html>\n<html>"), ("is text, not weights; it begins '<!DOCTYPE html>'",)),
    "pointer": (
        partial(written, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        ("is text, not weights; it begins 'version https://git-lfs", "get the file itself"),
    ),
    "image": (
        partial(written, b"\x89PNG\r\n\x1a\n" + bytes(100)),
        ("not a file of weights, neither PyTorch's nor safetensors", "begins 89 50 4e 47"),
    ),
    "zeros": (partial(written, bytes(10_000)), ("not a file of weights", "begins 00 00")),
    "empty": (partial(written, b""), ("is empty: get it again",)),
    "another zip": (
        partial(zipped, ("photos/a.jpg", "photos/b.jpg")),
        ("a zip archive, but not of weights: it holds photos/a.jpg, photos/b.jpg",),
    ),
    "empty zip": (partial(zipped, ()), ("a zip archive, but not of weights: it holds nothing",)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(kind: str, lite0: State, refused: Callable[..., str], tmp_path: Path) -> None:
    write, messages = BROKEN[kind]
    file = tmp_path / "mine.pth"
    write(lite0, file)
    error = refused(file)
    assert all(message in error for message in messages), error


@pytest.mark.parametrize("container", [torch.save, save_legacy], ids=["zip", "legacy"])
def test_a_malicious_file(
    container: Callable[..., None], lite0: State, refused: Callable[..., str], tmp_path: Path
) -> None:
    file, mark = tmp_path / "mine.pth", tmp_path / "mark"
    container({"state_dict": lite0, "args": Trap(mark)}, file)
    assert "would run code" in refused(file)
    assert "would run code" in refused(file, family="auto"), "the content is asked how it was trained"
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists(), "the trap is none"


@pytest.mark.parametrize("container", [torch.save, save_legacy], ids=["zip", "legacy"])
def test_a_whole_model(container: Callable[..., None], refused: Callable[..., str], tmp_path: Path) -> None:
    container(nn.Sequential(nn.Linear(2, 2)), tmp_path / "mine.pth")
    error = refused(tmp_path / "mine.pth")
    assert "'torch.nn.modules.container.Sequential' in it would run code" in error and "ask for the state dict" in error


@pytest.mark.parametrize(("variant", "family"), [("lite1", "lite"), ("b0", "aa"), ("b7", "advprop")])
def test_a_file_of_another_variant(
    variant: str, family: str, lite0: State, refused: Callable[..., str], tmp_path: Path
) -> None:
    torch.save(lite0, tmp_path / "mine.pth")
    error = refused(tmp_path / "mine.pth", variant, family)
    assert f"it holds weights of lite0, the model is {variant}: use model.variant=lite0" in error


@pytest.mark.parametrize("name", ["b0/in1k", "b0/torchvision", "lite0/lite"])
def test_a_wrong_hash_under_a_published_name(
    name: str, lite0: State, refused: Callable[..., str], tmp_path: Path
) -> None:
    record = WEIGHTS[name]
    torch.save(lite0, tmp_path / record.file)
    error = refused(tmp_path / record.file, record.variant, "auto")
    assert f"hash of {record.file} is wrong" in error and f"not {record.digits} as its name says" in error
    assert (tmp_path / record.file).exists(), "the user's file is not ours to remove"


@pytest.mark.parametrize("kind", ["zip cut to 0.5", "renamed keys", "page", "empty"])
def test_a_message_names_its_file_once(kind: str, lite0: State, refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    BROKEN[kind][0](lite0, file)
    assert refused(file).count(str(file)) == 1


def test_a_file_of_safetensors_may_promise_too_much(refused: Callable[..., str], tmp_path: Path) -> None:
    whole = bytearray(save(few()))
    whole[:8] = (10**6).to_bytes(8, "little")
    (tmp_path / "mine.safetensors").write_bytes(whole)
    assert "cannot be read as safetensors" in refused(tmp_path / "mine.safetensors")


class Maker:
    """Makes a folder when its pickle is loaded, by a function of a module that torch blocks altogether."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_raw_pickle_of_any_protocol_runs_nothing(protocol: int, tmp_path: Path) -> None:
    file, folder = tmp_path / "file.pth", tmp_path / "made"
    file.write_bytes(pickle.dumps({"a": Maker(folder)}, protocol=protocol))
    with pytest.raises(WeightsError, match=r"would run code when it is read.*nothing in it was run"):
        read_weights(file)
    assert not folder.exists()
    pickle.loads(file.read_bytes())
    assert folder.is_dir(), "the trap is none"


def test_safetensors_whose_length_begins_like_a_pickle(tmp_path: Path) -> None:
    file = tmp_path / "file.safetensors"
    description = {**OWN, "classes": ["a"]}
    while not file.is_file() or file.read_bytes()[:1] != b"\x80":  # an eighth of the lengths are tried, one in 32 hits
        description["classes"][0] += "a" * 8
        save_file(few(), file, {DESCRIPTION: json.dumps(description)})
    assert read_weights(file).description == description
