"""Checkpoint layouts: nothing is lost, nothing is loaded in silence, every file is told for what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
import torchvision
from torch import Tensor

from effnet_ft.errors import WeightsError
from effnet_ft.imagenet_classes import imagenet_classes
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.heads import HEADS
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights.download import weights_file
from effnet_ft.models.weights.files import read_weights
from effnet_ft.models.weights.key_maps import LAYOUTS, detect_layout, from_our_keys, keys, to_our_keys
from effnet_ft.models.weights.table import WEIGHTS, WeightsRecord

State = dict[str, Tensor]

PACKAGED = [record for record in WEIGHTS.values() if record.package]

# What files leave out of a whole state dict.
WITHOUT = {
    "nothing": (),
    "counters": ("num_batches_tracked",),
    "classifier": ("head.1.weight", "head.1.bias"),
    "both": ("num_batches_tracked", "head.1.weight", "head.1.bias"),
}


@lru_cache
def shapes(variant: str, head: str = "linear") -> State:
    with torch.device("meta"):
        return Classifier(variant, classes=imagenet_classes(), head=head).state_dict()


def published(variant: str, layout: str) -> State:
    return from_our_keys(shapes(variant), VARIANTS[variant], layout)


# There and back


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lacking", WITHOUT)
def test_round_trips(variant: str, layout: str, lacking: str) -> None:
    ours = {key: value for key, value in shapes(variant).items() if not key.endswith(WITHOUT[lacking] or "\0")}
    assert (len(ours) < len(shapes(variant))) == (lacking != "nothing")
    theirs = from_our_keys(ours, VARIANTS[variant], layout)
    assert len(theirs) == len(ours)
    again = to_our_keys(theirs, VARIANTS[variant], layout)
    assert again.keys() == ours.keys()
    assert all(again[key] is ours[key] for key in ours)
    back = from_our_keys(again, VARIANTS[variant], layout)
    assert back.keys() == theirs.keys()
    assert all(back[key] is theirs[key] for key in theirs)


@pytest.mark.parametrize("head", HEADS)
def test_any_head_of_ours_is_passed_on(head: str) -> None:
    ours = shapes("lite0", head)
    assert to_our_keys(ours, VARIANTS["lite0"], "effnet_ft") == ours
    assert detect_layout(ours) == ("effnet_ft", "lite0")


# What does not fit


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fault", ["missing", "not known", "both"])
def test_missing_and_unknown_keys_are_named(layout: str, fault: str) -> None:
    theirs = published("b0", layout)
    missing = [key for key in theirs if key.endswith("running_var")][:2] if fault != "not known" else []
    unknown = ["stray.weight", "stray.bias"] if fault != "missing" else []
    kept = {key: value for key, value in theirs.items() if key not in missing}
    with pytest.raises(WeightsError, match=f"b0 in {layout} layout") as error:
        to_our_keys({**kept, **dict.fromkeys(unknown, torch.zeros(1))}, VARIANTS["b0"], layout)
    text = str(error.value)
    assert ("2 missing keys" in text, "2 unknown keys" in text) == (bool(missing), bool(unknown))
    assert all(f"  {key}" in text for key in missing + unknown)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_variants_file_is_refused(layout: str) -> None:
    with pytest.raises(WeightsError, match="unknown key"):
        to_our_keys(published("b1", layout), VARIANTS["b0"], layout)


# Recognising


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lacking", WITHOUT)
def test_recognised(variant: str, layout: str, lacking: str) -> None:
    ours = {key: value for key, value in shapes(variant).items() if not key.endswith(WITHOUT[lacking] or "\0")}
    assert detect_layout(from_our_keys(ours, VARIANTS[variant], layout)) == (layout, variant)


def renamed(state: State) -> State:
    first = next(iter(state))
    return {f"{key}_" if key == first else key: value for key, value in state.items()}


def shortened(state: State) -> State:
    last = [key for key in state if key.endswith("running_var")][-1]
    return {key: value for key, value in state.items() if key != last}


def prolonged(state: State) -> State:
    return {**state, "stray.weight": torch.zeros(1)}


def transposed(state: State) -> State:
    """Return kernels as TensorFlow and a careless conversion have them."""
    return {key: value.transpose(0, 1) if value.ndim == 4 else value for key, value in state.items()}


def widened(state: State) -> State:
    return {key: torch.cat([value, value]) if value.ndim else value for key, value in state.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", [renamed, shortened, prolonged, transposed, widened])
@pytest.mark.parametrize("variant", ["b0", "lite0"])
def test_an_altered_file_is_no_variants(layout: str, change: Callable[[State], State], variant: str) -> None:
    assert detect_layout(change(published(variant, layout))) == (layout, "")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "vit_b_16"])
def test_foreign_networks_are_refused(name: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(name).state_dict()
    with pytest.raises(WeightsError, match="its keys are not those of an EfficientNet") as error:
        detect_layout(state)
    assert all(layout in str(error.value) for layout in LAYOUTS)
    assert f"  {next(iter(state))}\n" in str(error.value)


# Names


# SHA-256 of the sorted lines "KEY [SHAPE]" of mmpretrain 1.2.0's EfficientNet(arch=...).state_dict(). Its classifiers
# call that network "backbone" and keep their linear layer in "head.fc".
OPENMMLAB = {
    "b0": "7070464f19a0e52b4f8c992cc960974caddfb55cf1ec1e1e724703c0bbbec5b7",
    "b1": "2b723d52d738c915180f4fe4719178dcbda13509dabe90fe90517a478b376a5a",
    "b2": "f907a7f304f3eb9a0a9c32d98d855da5ae684a941b1f83afbaa54e0d103ba473",
    "b3": "f5ec813cd17b56a1d2dc8aaa92764b2e2e31e8f636983d62cc04f5c3d6d2b4f6",
    "b4": "8fb2c39d4a9e912dd1a2d7e899149afea6f63369e89466ad6c800b7f38e37786",
    "b5": "09605aedb4c7dc79824de6bb16444d702fcde0db0240230ce8047421528b5fff",
    "b6": "114e41881573b20ecf68e11c3d8a075cb117633c43c4e85bd0354d1bb1c73373",
    "b7": "74d1734ba5b4b16e1b97eeeba9ac008834f991d00adab715a219a34624aeec05",
    "b8": "186160ec6ff9494e2c183623ecc51f2f2e28f18f411c26e865797fbbc3c17d2d",
}


@pytest.mark.parametrize("variant", OPENMMLAB)
def test_openmmlabs_names_and_shapes(variant: str) -> None:
    theirs = published(variant, "openmmlab")
    head = {key: list(theirs.pop(key).shape) for key in ("head.fc.weight", "head.fc.bias")}
    assert head == {"head.fc.weight": [1000, VARIANTS[variant].features], "head.fc.bias": [1000]}
    assert all(key.startswith("backbone.") for key in theirs)
    lines = sorted(f"{key.removeprefix('backbone.')} {list(value.shape)}" for key, value in theirs.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == OPENMMLAB[variant]


def test_openmmlabs_names_are_checked_for_every_variant_it_has() -> None:
    assert list(OPENMMLAB) == [name for name, variant in VARIANTS.items() if not variant.lite]


# What a published file calls the parts of the second stage's first block, which is the network's second.
LUKEMELAS = {
    "_conv_stem.weight": "stages.0.0.weight",
    "_bn0.running_mean": "stages.0.1.running_mean",
    "_blocks.1._expand_conv.weight": "stages.2.0.block.0.0.weight",
    "_blocks.1._bn0.running_mean": "stages.2.0.block.0.1.running_mean",
    "_blocks.1._depthwise_conv.weight": "stages.2.0.block.1.0.weight",
    "_blocks.1._bn1.running_mean": "stages.2.0.block.1.1.running_mean",
    "_blocks.1._se_reduce.bias": "stages.2.0.block.2.fc1.bias",
    "_blocks.1._se_expand.bias": "stages.2.0.block.2.fc2.bias",
    "_blocks.1._project_conv.weight": "stages.2.0.block.3.0.weight",
    "_blocks.1._bn2.running_mean": "stages.2.0.block.3.1.running_mean",
    "_conv_head.weight": "stages.8.0.weight",
    "_bn1.running_mean": "stages.8.1.running_mean",
    "_fc.bias": "head.1.bias",
}


def test_lukemelas_names() -> None:
    assert LUKEMELAS.items() <= keys(VARIANTS["b0"], "lukemelas").items()


@pytest.mark.parametrize("record", PACKAGED, ids=lambda record: record.name)
def test_packaged_files_are_read_whole(record: WeightsRecord) -> None:
    pytest.importorskip(record.package)
    theirs, ours = read_weights(weights_file(record)).state, shapes(record.variant)
    assert detect_layout(theirs) == (record.layout, record.variant)
    loaded = to_our_keys(theirs, VARIANTS[record.variant], record.layout)
    assert len(loaded) == len(theirs)
    assert {key: value.shape for key, value in loaded.items()} == {key: ours[key].shape for key in loaded}
    assert all(key in loaded or key.endswith("num_batches_tracked") for key in ours)
