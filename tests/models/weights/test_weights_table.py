"""The table of weights against OpenMMLab's card, torchvision's records, the packages' files and real photographs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from effnet_ft.models.catalogue import models_page
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.download import weights_file
from effnet_ft.models.weights.files import read_weights
from effnet_ft.models.weights.key_maps import from_our_keys, to_our_keys
from effnet_ft.models.weights.table import FAMILIES, WEIGHTS, WeightsRecord
from effnet_ft.preprocessing import Preprocessing

ROOT = Path(__file__).parents[3]
CARD = ROOT.parent / "shared" / "reference" / "efficientnet-model-card.md"

OF_OPENMMLAB = [record for record in WEIGHTS.values() if record.layout == "openmmlab"]
OF_TORCHVISION = [record for record in WEIGHTS.values() if record.layout == "torchvision"]
PACKAGED = [record for record in WEIGHTS.values() if record.package]

each = partial(pytest.mark.parametrize, "record", ids=lambda record: record.name)


@each(PACKAGED)
def test_the_licence_is_that_of_the_package(record: WeightsRecord) -> None:
    try:
        text = distribution(record.package.replace("_", "-")).read_text("LICENSE")
    except PackageNotFoundError:
        pytest.skip(f"{record.package} is not installed")
    assert text is not None and "Licensed under the Apache License, Version 2.0" in text
    assert FAMILIES[record.family].licence == "Apache-2.0"


# OpenMMLab's


def test_openmmlabs_card() -> None:
    if not CARD.is_file():
        pytest.skip(f"no model card at {CARD}")
    row = (
        r"\| EfficientNet-(B\d)(?: \((.+)\))?\\\* \| ([\d.]+) \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \| .* \[model\]\((.+)\)"
    )
    families = {"": "in1k", "AA": "aa", "AA + AdvProp": "advprop"}
    published = [
        (f"{variant.lower()}/{families[training]}", address, float(top1), float(top5), float(millions))
        for variant, training, millions, top1, top5, address in re.findall(row, CARD.read_text(encoding="utf-8"))
    ]
    assert len(published) == 23
    assert published == [
        (
            *(record.name, f"{record.address}/{record.file}", record.top1, record.top5),
            round(VARIANTS[record.variant].parameters / 1e6, 2),
        )
        for record in OF_OPENMMLAB
    ]


def test_openmmlab_published_twenty_three() -> None:
    last = {"in1k": 5, "aa": 7, "advprop": 8}
    expected = {f"b{number}/{family}" for family, most in last.items() for number in range(most + 1)}
    assert {record.name for record in OF_OPENMMLAB} == expected
    assert len(OF_OPENMMLAB) == 23


@each(OF_OPENMMLAB)
def test_openmmlabs_crop(record: WeightsRecord) -> None:
    view, size = record.preprocessing, VARIANTS[record.variant].size
    assert (view.size, view.resize, view.interpolation, view.crop) == (size, size + 32, "bicubic", "openmmlab")


# torchvision's and Lite


@each(OF_TORCHVISION)
def test_torchvisions_records(record: WeightsRecord) -> None:
    versions = torchvision.models.get_model_weights(f"efficientnet_{record.variant}")
    published = versions["IMAGENET1K_V2" if record.family == "torchvision-v2" else "IMAGENET1K_V1"]
    assert f"{record.address}/{record.file}" == published.url
    assert VARIANTS[record.variant].parameters == published.meta["num_params"]
    accuracy = published.meta["_metrics"]["ImageNet-1K"]
    assert (record.top1, record.top5) == (accuracy["acc@1"], accuracy["acc@5"])
    seen, own = published.transforms(), record.preprocessing
    assert ([own.size], [own.resize], own.interpolation) == (seen.crop_size, seen.resize_size, seen.interpolation.value)
    assert own.crop == "timm"
    assert own.mean == pytest.approx([255 * value for value in seen.mean])
    assert own.std == pytest.approx([255 * value for value in seen.std])


def test_every_file_of_torchvision_is_offered() -> None:
    models = [name for name in torchvision.models.list_models() if re.fullmatch(r"efficientnet_b\d", name)]
    published = {weights.url for name in models for weights in torchvision.models.get_model_weights(name)}
    assert {f"{record.address}/{record.file}" for record in OF_TORCHVISION} == published


@each(PACKAGED)
def test_lite_records(record: WeightsRecord) -> None:
    published = {"lite0": 75.1, "lite1": 76.7, "lite2": 77.6}
    assert (record.top1, record.top5) == (published[record.variant], None)
    size = VARIANTS[record.variant].size
    assert record.preprocessing == Preprocessing(size, size + 32, "bicubic", "timm", (127.0,) * 3, (128.0,) * 3)


@each(PACKAGED)
def test_packaged_files_bear_their_hash(record: WeightsRecord) -> None:
    pytest.importorskip(record.package)
    assert hashlib.sha256(weights_file(record).read_bytes()).hexdigest().startswith(record.digits)


# All


IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # 255 times 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225
NUMBERS = {
    "in1k": (*IMAGENET, "same"),
    "aa": (*IMAGENET, "same"),
    "advprop": ((127.5,) * 3, (127.5,) * 3, "same"),
    "torchvision": (*IMAGENET, "symmetric"),
    "torchvision-v2": (*IMAGENET, "symmetric"),
    "lite": ((127.0,) * 3, (128.0,) * 3, "same"),
}


def test_every_family_has_numbers() -> None:
    assert list(NUMBERS) == list(FAMILIES)
    assert {record.family for record in WEIGHTS.values()} == set(FAMILIES)


@each(WEIGHTS.values())
def test_normalisation_and_padding_are_those_of_the_training(record: WeightsRecord) -> None:
    view = record.preprocessing
    assert (view.mean, view.std, record.padding) == NUMBERS[record.family]


@each(WEIGHTS.values())
def test_file_names_bear_digits(record: WeightsRecord) -> None:
    assert re.fullmatch("[0-9a-f]{8}", record.digits)
    assert record.file.endswith(f"-{record.digits}.pth")


def test_no_two_records_share_their_digits() -> None:
    assert len({record.digits for record in WEIGHTS.values()}) == len(WEIGHTS)


@pytest.mark.parametrize(
    ("file", "digits"),
    [("mine.pth", ""), ("flowers-17.pth", ""), ("tf_efficientnet_b3.aa_in1k.safetensors", ""), ("x-" + "0a" * 32, "")]
    + [(f"x-{digits}.safetensors", digits) for digits in ("0123abcd", "0a" * 32)],
)
def test_digits_of_other_names(file: str, digits: str) -> None:
    record = WeightsRecord("b0", "aa", file, "", "same", 1e-3, Preprocessing(224, 256))
    assert record.digits == digits


def test_the_page_of_tables() -> None:
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == models_page()


# Real photographs


# Top-1 and top-5 on 200 ImageNet photographs, measured with the files' reference implementation.
ACCURACY = {"lite0": (0.870, 0.980), "lite1": (0.900, 0.985), "lite2": (0.910, 0.995)}


def rewritten(record: WeightsRecord, layout: str, folder: Path) -> Path:
    """Write the package's tensors as timm or OpenMMLab would have published them, under a name that tells nothing."""
    variant = VARIANTS[record.variant]
    ours = to_our_keys(read_weights(weights_file(record)).state, variant, record.layout)
    theirs = {key: value.contiguous() for key, value in from_our_keys(ours, variant, layout).items()}
    file = folder / ("mine.safetensors" if layout == "timm" else "mine.pth")
    save_file(theirs, file) if layout == "timm" else torch.save({"state_dict": theirs, "meta": {"epoch": 1}}, file)
    return file


def from_package(record: WeightsRecord, folder: Path) -> Classifier:
    return create_model(record.variant, record.family)


def from_timm(record: WeightsRecord, folder: Path) -> Classifier:
    return create_model(record.variant, str(rewritten(record, "timm", folder)), family=record.family)


def from_openmmlab(record: WeightsRecord, folder: Path) -> Classifier:
    return create_model(record.variant, str(rewritten(record, "openmmlab", folder)), family=record.family)


Source = Callable[[WeightsRecord, Path], Classifier]


def accuracy(model: Classifier, photographs: list[Path]) -> tuple[float, float]:
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
@pytest.mark.parametrize("source", [from_package, from_timm, from_openmmlab])
def test_accuracy_on_photographs(
    record: WeightsRecord, source: Source, photographs: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip(record.package)
    measured = accuracy(source(record, tmp_path), photographs)
    assert measured == pytest.approx(ACCURACY[record.variant], abs=0.0051)  # one photograph


@each(PACKAGED[:1])
def test_accuracy_on_a_few_photographs(record: WeightsRecord, photographs: list[Path], tmp_path: Path) -> None:
    pytest.importorskip(record.package)
    assert accuracy(from_package(record, tmp_path), photographs[::5]) == pytest.approx(ACCURACY["lite0"], abs=0.1)


@each(PACKAGED)
@pytest.mark.parametrize("source", [from_timm, from_openmmlab])
def test_logits_are_the_same_from_any_publishers_file(record: WeightsRecord, source: Source, tmp_path: Path) -> None:
    pytest.importorskip(record.package)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    model = source(record, tmp_path)
    with torch.inference_mode():
        logits: Tensor = from_package(record, tmp_path)(images)
        assert torch.equal(model(images), logits)
    assert logits.std() > 0.1, "the logits hardly depend on the class"
    assert model.preprocessing == record.preprocessing


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("package:efficientnet_lite0", "package efficientnet-lite0"),
        ("https://download.pytorch.org/models", "download.pytorch.org"),
        ("out", "out"),
        ("/home/ann/weights/own", "/home/ann/weights/own"),
        ("", "the working folder"),
    ],
)
def test_a_source_is_a_package_a_host_or_a_folder(address: str, source: str) -> None:
    assert replace(WEIGHTS["lite0/lite"], address=address).source == source
