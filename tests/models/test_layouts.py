"""Checkpoint layouts: nothing is lost, nothing is loaded in silence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from effnet_ft.errors import WeightsError
from effnet_ft.models.classifier import Classifier, imagenet_classes
from effnet_ft.models.layouts import LAYOUTS, from_layout, keys, to_layout
from effnet_ft.models.variants import VARIANTS
from effnet_ft.models.weights import WEIGHTS, WeightsRecord, load_state

PACKAGED = [record for record in WEIGHTS.values() if record.address.startswith("package:")]


def shapes(variant: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return Classifier(variant, classes=imagenet_classes()).state_dict()


@pytest.fixture(scope="module", params=VARIANTS)
def state(request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor]]:
    return request.param, shapes(request.param)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip(state: tuple[str, dict[str, Tensor]], layout: str) -> None:
    name, ours = state
    theirs = to_layout(ours, VARIANTS[name], layout)
    assert len(theirs) == len(ours)
    again = from_layout(theirs, VARIANTS[name], layout)
    assert again.keys() == ours.keys()
    assert all(again[key] is ours[key] for key in ours)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fault", ["missing", "not known", "both"])
def test_missing_and_unknown_keys_are_named(layout: str, fault: str) -> None:
    theirs = to_layout(shapes("b0"), VARIANTS["b0"], layout)
    missing = [key for key in theirs if key.endswith("running_var")][:2] if fault != "not known" else []
    unknown = ["stray.weight", "stray.bias"] if fault != "missing" else []
    faulty = {key: value for key, value in theirs.items() if key not in missing} | dict.fromkeys(
        unknown, torch.zeros(1)
    )
    with pytest.raises(WeightsError, match=f"b0 in {layout} layout") as error:
        from_layout(faulty, VARIANTS["b0"], layout)
    text = str(error.value)
    assert ("2 keys are missing" in text, "2 keys are not known" in text) == (bool(missing), bool(unknown))
    assert all(f"  {key}" in text for key in missing + unknown)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_variants_file_is_refused(layout: str) -> None:
    theirs = to_layout(shapes("b1"), VARIANTS["b1"], layout)
    with pytest.raises(WeightsError, match="keys are not known"):
        from_layout(theirs, VARIANTS["b0"], layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_older_than_the_batch_counter(layout: str) -> None:
    theirs = to_layout(shapes("lite0"), VARIANTS["lite0"], layout)
    counters = [key for key in theirs if key.endswith("num_batches_tracked")]
    for key in counters:
        del theirs[key]
    again = from_layout(theirs, VARIANTS["lite0"], layout)
    assert counters and len(again) == len(theirs)
    assert not any(key.endswith("num_batches_tracked") for key in again)


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
    pytest.importorskip(record.address.removeprefix("package:"))
    theirs, ours = load_state(record), shapes(record.variant)
    loaded = from_layout(theirs, VARIANTS[record.variant], record.layout)
    assert len(loaded) == len(theirs)
    assert {key: value.shape for key, value in loaded.items()} == {key: ours[key].shape for key in loaded}
    assert {key for key in ours if key not in loaded} <= {key for key in ours if key.endswith("num_batches_tracked")}
