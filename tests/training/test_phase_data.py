"""Where decoded images are kept: on disk, in memory where only that has room, or nowhere, and the log says so."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

from effnet_ft.activations import store
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.splits.split import make_split
from effnet_ft.inference.predictor import Predictor
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.planning.phases import plan_phases
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.recipe import load_recipe
from effnet_ft.training import phase_data
from effnet_ft.training.phase_data import PhaseDataSource
from effnet_ft.utils.array_cache import ArrayCache

NOTHING = "store.max_gb=0.000001"


@pytest.mark.parametrize(
    ("decoded", "overrides", "memory", "kept", "files"),
    [
        ("auto", [], 10**9, True, 2),
        ("auto", [NOTHING], 10**9, True, 0),
        ("auto", [NOTHING], 10, False, 0),
        ("disk", [], 10, True, 2),
        ("disk", [NOTHING], 10**9, False, 0),
        ("memory", [], 10**9, True, 0),
        ("memory", [], 10, False, 0),
        ("off", [], 10**9, False, 0),
    ],
)
def test_decoded_images_are_kept_where_there_is_room(
    decoded: str,
    overrides: list[str],
    memory: int,
    kept: bool,
    files: int,
    flowers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("EFFNET_FT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(phase_data, "half_of_free_memory", lambda: memory)
    split = make_split(scan_folder(flowers), val_fraction=0.15, test_fraction=0.15, seed=0)
    phases = "phases=[{train: all, epochs: 2, lr: 1e-3}]"
    recipe = load_recipe("folder", [f"data.root={flowers}", phases, *TINY, f"data.decoded={decoded}", *overrides])
    (plan,) = plan_phases(recipe)
    model = Classifier("lite0", classes=split.classes, preprocessing=Preprocessing(64, 72))
    with caplog.at_level(logging.INFO):
        data = PhaseDataSource(recipe, split, [plan]).data(plan, model, torch.device("cpu"))
    assert (data.decoded[0] is not None, data.decoded[1] is not None) == (kept, kept)
    assert len(ArrayCache().entries()) == files
    assert ("decoded" in caplog.text) == (decoded != "off")
    assert len(next(iter(data.train_dataloader()))[0]) == 8


@pytest.mark.parametrize("train", ["head", "stage7", "stage3"])
def test_answers_from_the_store_are_those_of_a_prediction(
    train: str, flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFNET_FT_CACHE", str(tmp_path / "cache"))
    split = make_split(scan_folder(flowers), val_fraction=0.15, test_fraction=0.15, seed=0)
    phases = f"phases=[{{train: {train}, epochs: 2, lr: 1e-3}}]"
    recipe = load_recipe("folder", [f"data.root={flowers}", phases, *TINY])
    (plan,) = plan_phases(recipe)
    model = create_model("lite0", "lite", classes=split.classes)
    model.preprocessing = model.preprocessing.at_size(64)
    model.freeze(plan.cut)
    feeder, predictor = PhaseDataSource(recipe, split, [plan]), Predictor(model)
    expected = predictor.logits([split.image(sample) for sample in split.test], 8)
    before = feeder.answers(predictor, plan, "test", 8)
    assert np.array_equal(before, expected), "a phase that was not fed from the store"
    feeder.data(plan, model, torch.device("cpu"))
    for _ in range(2):
        found = feeder.answers(predictor, plan, "test", 8)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        monkeypatch.setattr(store, "read_image", None)  # the second time no image is read


@pytest.mark.parametrize("kept", [True, False])
def test_a_process_without_an_image_to_evaluate_answers_with_none(
    kept: bool, flowers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split(scan_folder(flowers), val_fraction=0.15, test_fraction=0.15, seed=0)
    recipe = load_recipe("folder", [f"data.root={flowers}", "phases=[{train: stage7, epochs: 2, lr: 1e-3}]", *TINY])
    (plan,) = plan_phases(recipe)
    model = Classifier("lite0", classes=split.classes, preprocessing=Preprocessing(64, 72))
    feeder = PhaseDataSource(recipe, split, [plan])
    if kept:
        feeder.data(plan, model, torch.device("cpu"))
    monkeypatch.setattr(phase_data.collectives, "rank_slice", lambda length: range(0))
    assert feeder.answers(Predictor(model), plan, "test", 8).shape == (0, len(split.classes))
