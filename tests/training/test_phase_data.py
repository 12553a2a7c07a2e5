"""A phase's batches come from where the plan says; where that fails, the plan is revised and the log says so."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plans import plan_file, plan_of
from tiny import TINY
from torch import nn

from effnet_ft.activations import store
from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.activations.store import ActivationStore, Overflow
from effnet_ft.data.datamodule import ImageDataModule
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.splits.split import Split, make_split
from effnet_ft.errors import DataError
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.planning.facts import image_facts
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.training import phase_data
from effnet_ft.training.phase_data import PhaseData
from effnet_ft.utils.array_cache import FOLDER_VARIABLE, ArrayCache

CPU = torch.device("cpu")
ALL = "phases=[{train: all, epochs: 2, lr: 1e-3}]"
STAGE7 = "phases=[{train: stage7, epochs: 2, lr: 1e-3}]"
HEAD = "phases=[{train: head, epochs: 2, lr: auto}]"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArrayCache:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return ArrayCache()


@pytest.fixture(scope="module")
def split(flowers: Path) -> Split:
    return make_split(scan_folder(flowers), val_fraction=0.15, test_fraction=0.15, seed=0)


@pytest.fixture
def model(split: Split) -> Classifier:
    return Classifier("lite0", classes=split.classes, preprocessing=Preprocessing(32, 36)).eval()


def data_of(split: Split, *overrides: str) -> PhaseData:
    plan = plan_of(*TINY, "data.image_size=32", *overrides, images=image_facts(split))
    return PhaseData(plan_file(plan, Path()), split)


def shown(data: PhaseData, model: Classifier, index: int = 0, **how: Any) -> ImageDataModule | ActivationDataModule:
    """Return the batches of a phase, of which one is read."""
    model.freeze(data.plan.phase(index).cut)
    module = data.data_module(index, model, CPU, **how)
    images, labels = next(iter(module.train_dataloader()))
    assert len(images) == len(labels) == 8
    return module


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# Decoded images


@pytest.mark.parametrize(("decoded", "kept", "files"), [("disk", True, 2), ("memory", True, 0), ("off", False, 0)])
def test_decoded_images_are_kept_where_the_plan_says(
    decoded: str, kept: bool, files: int, split: Split, model: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    data = data_of(split, ALL, f"data.decoded={decoded}")
    with caplog.at_level(logging.INFO):
        module = shown(data, model)
    assert isinstance(module, ImageDataModule)
    assert [part is not None for part in module.decoded] == [kept, kept]
    assert len(data.cache.entries()) == files
    assert ("decoded: 24 training images" in caplog.text) == kept
    assert data.plan.plan.revision == 1


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("decoded", "memory", "place", "words"),
    [
        ("auto", 10**9, "memory", ": stored in memory"),
        ("auto", 10, "", ": files are decoded in every epoch"),
        ("disk", 10**9, "", ": files are decoded in every epoch"),
    ],
)
def test_decoded_images_that_the_disk_cannot_keep(
    decoded: str,
    memory: int,
    place: str,
    words: str,
    split: Split,
    model: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(phase_data, "half_of_free_memory", lambda: memory)
    data = data_of(split, ALL, f"data.decoded={decoded}")
    module = shown(data, model)
    assert isinstance(module, ImageDataModule) and (module.decoded[0] is not None) == bool(place)
    source, plan = data.plan.phase(0).source, data.plan.plan
    assert (source.kind, source.place, plan.revision) == ("decoded" if place else "files", place, 2)
    assert told(caplog) == list(plan.changes)
    assert "cannot be stored on disk (" in told(caplog)[0] and words in told(caplog)[0]
    assert "No space left" in plan.reasons["phases.0.source"]


def test_decoded_images_that_are_larger_than_they_were_thought(
    split: Split, model: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = data_of(split, ALL, "data.decoded=memory")
    monkeypatch.setattr(phase_data, "half_of_free_memory", lambda: 10)
    module = shown(data, model)
    assert isinstance(module, ImageDataModule) and module.decoded == (None, None)
    assert data.plan.phase(0).source.kind == "files" and "would take more than" in told(caplog)[0]


# Stored activations


def test_a_phase_trains_from_what_the_plan_stores(split: Split, model: Classifier, cache: ArrayCache) -> None:
    data = data_of(split, "phases=[{train: head, epochs: 9, lr: 1e-2}]", "store.views=3", "store.dtype=float32")
    module = shown(data, model)
    assert isinstance(module, ActivationDataModule)
    assert [array.dtype for array in module.train.arrays] == [np.float32] * 3
    assert len(cache.entries()) == 3 + 1
    kept, planned = sum(entry.size for entry in cache.entries()), data.plan.phase(0).source.bytes
    assert kept - 4 * 128 == planned  # a header each


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system does not promise space")
def test_on_a_full_disk_a_phase_reads_images(
    split: Split, model: Classifier, cache: ArrayCache, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "posix_fallocate", full)
    data = data_of(split, HEAD, "data.decoded=off")
    assert data.plan.phase(0).search == "grid of heads"
    assert isinstance(shown(data, model), ImageDataModule)
    (why,) = told(caplog)
    assert "cannot be written" in why and "No space left" in why and data.plan.plan.changes == (why,)
    assert (data.plan.phase(0).source.kind, data.plan.phase(0).search) == ("files", "range test")
    assert list(cache.folder.glob("*.np*")) == []


def test_a_resumed_phase_must_find_its_activations(
    split: Split, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ActivationStore, "arrays", full)
    with pytest.raises(DataError, match="phase 1 trained from stored activations before"):
        shown(data_of(split, STAGE7), model, resumed=True)


def enlarge(model: Classifier, factor: float) -> None:
    """Make stage 7's input ``factor`` times as large."""
    norm = [module for module in model.stages[6].modules() if isinstance(module, nn.BatchNorm2d)][-1]
    with torch.no_grad():
        norm.weight.mul_(factor)
        norm.bias.fill_(factor)


def test_values_too_large_for_float16_are_kept_as_float32(
    split: Split, model: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    enlarge(model, 1e6)
    data = data_of(split, STAGE7)
    before = data.plan.phase(0).source.bytes
    module = shown(data, model)
    assert isinstance(module, ActivationDataModule)
    train, val = module.train.arrays, module.val.arrays[0]
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in (*train, val))
    assert np.abs(val).max() > np.finfo(np.float16).max
    assert told(caplog) == ["store: values too large for float16: stored as float32"] == list(data.plan.plan.changes)
    assert data.plan.plan.store.dtype == "float32" and data.plan.phase(0).source.bytes == 2 * before


def test_what_no_longer_fits_as_float32_is_read_from_images(
    split: Split, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(*_: object) -> None:
        raise Overflow

    monkeypatch.setattr(ActivationStore, "arrays", overflow)
    need = data_of(split, HEAD).plan.phase(0).source.bytes
    data = data_of(split, HEAD, f"store.max_gb={1.5 * need / 1e9}", "data.decoded=off")
    assert isinstance(shown(data, model), ImageDataModule)
    assert (data.plan.phase(0).source.kind, data.plan.phase(0).search) == ("files", "range test")


def test_values_that_no_type_holds_are_not_kept(split: Split, model: Classifier, cache: ArrayCache) -> None:
    enlarge(model, float("inf"))
    data = data_of(split, STAGE7, "data.decoded=off")
    assert isinstance(shown(data, model), ImageDataModule)
    assert sum(entry.size for entry in cache.entries()) == 0 and data.plan.plan.revision == 3


# Evaluation


@pytest.mark.parametrize("train", ["head", "stage7", "stage3"])
def test_answers_from_the_store_are_those_of_a_prediction(
    train: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create_model("lite0", "lite", classes=split.classes)
    model.preprocessing = model.preprocessing.at_size(32)
    phases = f"phases=[{{train: {train}, epochs: 2, lr: 1e-3}}]"
    predictor = Predictor(model)
    expected = predictor.logits([split.image(sample) for sample in split.test], 8)
    streaming = data_of(split, phases, "store=off").logits(predictor, 0, "test", 8)
    assert np.array_equal(streaming, expected)
    for _ in range(2):
        found = data_of(split, phases).logits(predictor, 0, "test", 8)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        monkeypatch.setattr(store, "read_image", None)  # the second time no image is read


@pytest.mark.parametrize("overrides", [[], ["store=off"]], ids=["stored", "images"])
def test_a_process_without_an_image_to_evaluate_answers_with_none(
    overrides: Sequence[str], split: Split, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phase_data.collectives, "rank_slice", lambda length: range(0))
    found = data_of(split, STAGE7, *overrides).logits(Predictor(model), 0, "test", 8)
    assert found.shape == (0, len(split.classes))
