"""Images with several labels: trained, measured, predicted and told of from a manifest to the report."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plans import plan_of
from tiny import TINY

import effnet_ft
from effnet_ft.activations.datamodule import ActivationDataModule
from effnet_ft.cli import main
from effnet_ft.data.images.views import Views
from effnet_ft.evaluation.metrics import best_thresholds, mean_average_precision, multilabel_metrics
from effnet_ft.models.classifier import Classifier
from effnet_ft.models.creation import create_model
from effnet_ft.optim.losses import classification_loss
from effnet_ft.preprocessing import Preprocessing
from effnet_ft.runs.run_folder import Run, load_model
from effnet_ft.training.lr_finder.head_grid import search_head_grid
from effnet_ft.training.module import FineTuner

COLOURS = {"red": 0, "green": 1, "blue": 2}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 48 images; each has as labels the colours that it is made of, some none."""
    folder = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    rows = []
    for number in range(48):
        held = [name for place, name in enumerate(COLOURS) if number >> place & 1]
        pixels = random.integers(0, 60, (64, 64, 3), np.uint8)
        for name in held:
            pixels[..., COLOURS[name]] += 180
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append((f"{number}.png", "|".join(held), f"g{number // 2}"))
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "labels", "group"), *rows])
    return folder / "manifest.csv"


PHASES = "phases=[{train: head, epochs: 6, lr: 3e-2}, {train: stage7, epochs: 1, lr: 1e-4}]"


@pytest.fixture(scope="module")
def run(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on the colours. Read only."""
    run = Run(tmp_path_factory.mktemp("runs") / "colours")
    where = ["data.source=manifest", f"data.root={colours}", f"run_dir={run.folder}"]
    assert main(["train", "folder", *where, PHASES, "data.val_fraction=0.25", *TINY]) == 0
    return run


def test_no_threshold_is_fitted_on_images_that_were_trained_on(colours: Path, tmp_path: Path) -> None:
    where = ["data.source=manifest", f"data.root={colours}", f"run_dir={tmp_path / 'run'}", "data.fit=trainval"]
    phases = "phases=[{train: head, epochs: 6, lr: 3e-2}]"
    assert main(["train", "folder", *where, phases, "data.val_fraction=0.25", *TINY]) == 0
    run = Run(tmp_path / "run")
    assert load_model(run.best).thresholds == (0.5,) * 3
    assert "at a threshold of 0.5" in run.report.read_text() and "not fitted" in run.log.read_text()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_folder_tells_of_labels(run: Run) -> None:
    metrics = json.loads(run.metrics.read_text())
    wanted = {f"{part}/{name}" for part in ("val", "test") for name in ("map", "macro_f1")}
    assert wanted | {f"test/f1/{name}" for name in COLOURS} <= metrics.keys()
    assert not [name for name in metrics if "acc" in name]
    assert metrics["test/ece"] < metrics["test/ece_uncalibrated"] and metrics["temperature"] < 1
    assert ("test/map_low" in metrics) == ("test/map_high" in metrics) == (metrics["test/map"] < 1)
    assert metrics.get("test/map_low", 0) <= metrics["test/map"] <= metrics.get("test/map_high", 1)
    assert metrics["test/map"] > 0.9
    table = rows_of(run.table)
    assert [*table[0]][4:8] == ["train/loss", "train/map", "val/loss", "val/map"] and len(table) == 7
    assert max(float(row["val/map"]) for row in table) == pytest.approx(metrics["val/map"], abs=1e-3)
    assert "mean average precision" in run.log.read_text() and "train map" in run.log.read_text()
    split = rows_of(run.split)
    assert [*split[0]] == ["path", "labels", "split", "group", "sha256"] and len(split) == 48
    sides = {row["group"]: row["split"] for row in split}
    assert all(sides[row["group"]] == row["split"] for row in split)
    page = run.report.read_text()
    assert "Confusion" not in page and '<th scope="row">green</th>' in page and "mean average precision" in page


def test_predictions_follow_the_stored_thresholds(run: Run, colours: Path, tmp_path: Path) -> None:
    predictor = effnet_ft.load(run.folder)
    assert load_model(run.last).thresholds == (0.5,) * 3
    thresholds = predictor.model.thresholds
    assert predictor.model.task == "multi" and thresholds != (0.5,) * 3
    images = [colours.parent / f"{number}.png" for number in range(48)]
    probabilities = predictor.probabilities(images)
    for row, named in zip(probabilities, predictor.predict(images, top_k=2), strict=True):
        holding = [(-p, name) for p, name, limit in zip(row, predictor.classes, thresholds, strict=True) if p >= limit]
        assert [name for name, _ in named] == [name for _, name in sorted(holding)][:2]
    assert [] in predictor.predict(images) and max(map(len, predictor.predict(images))) == 3
    written = rows_of(run.predictions)
    assert main(["predict", str(run.folder), str(colours.parent), "--out", str(tmp_path / "p.csv")]) == 0
    told = {Path(row["path"]).name: row["prediction"] for row in rows_of(tmp_path / "p.csv")}
    assert len(told) == 48
    assert {row["path"]: row["prediction"] for row in written} == {row["path"]: told[row["path"]] for row in written}
    assert all(row["prediction"].count("|") == row["probability"].count("|") for row in written)


def test_it_is_evaluated_on_its_own_images_and_on_others(
    run: Run, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "metrics.json"
    assert main(["evaluate", str(run.folder), "--json", str(out)]) == 0
    metrics = json.loads(run.metrics.read_text())
    again = json.loads(out.read_text())
    assert again == pytest.approx({name: metrics[name] for name in again}) and "test/map" in again
    some = tmp_path / "some.csv"
    some.write_text("path;labels\n3.png;red|green\n0.png;\n4.png;blue\n")
    predictions = tmp_path / "predictions.csv"
    moved = [f"data.root={some}", f"data.images={colours.parent}"]
    assert main(["evaluate", str(run.folder), *moved, "--out", str(predictions)]) == 0
    assert [row["label"] for row in rows_of(predictions)] == ["green|red", "", "blue"]
    assert re.search(r"trained or selected on \d of these 3 images", capsys.readouterr().err)


def test_labels_come_from_the_files_as_from_the_store(run: Run, colours: Path, tmp_path: Path) -> None:
    where = ["data.source=manifest", f"data.root={colours}", f"run_dir={tmp_path / 'run'}", "store=off"]
    phases = "phases=[{train: head, epochs: 1, lr: auto}]"
    assert main(["train", "folder", *where, phases, "data.val_fraction=0.25", "optim.label_smoothing=0", *TINY]) == 0
    assert (tmp_path / "run" / "lr_search-1.csv").read_text().startswith("lr,train/loss")
    assert (tmp_path / "run" / "split.csv").read_text() == run.split.read_text()


def test_the_gradient_of_the_search_is_that_of_the_smoothed_loss() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(20, 6)).astype(np.float32)
    labels = (random.random((20, 3)) < 0.4).astype(np.float32)
    views = Views(Preprocessing(32, 36), "none", 1, (0,))
    data = ActivationDataModule([features], features, (labels, labels), views, batch_size=20)
    plain = ["model.dropout=0", "optim.name=sgd", "optim.momentum=0", "optim.schedule=constant"]
    plain += ["optim.warmup_epochs=0", "optim.label_smoothing=0.2", "phases=[{train: head, epochs: 1, lr: auto}]"]
    (phase,) = plan_of(*plain).phases
    model = Classifier("lite0", classes="abc", task="multi", dropout=0)
    model.head[-1] = torch.nn.Linear(6, 3)
    with torch.no_grad():
        model.head[-1].bias.zero_()
    trials = search_head_grid(data, FineTuner(model, replace(phase.optim, lr=1.0)), phase, torch.device("cpu"))
    assert len(trials) == 56 and trials[0].accuracy == max(trial.accuracy for trial in trials)
    weight = model.head[-1].weight.detach().clone().requires_grad_()
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    classification_loss(x @ weight.T, y, multilabel=True, smoothing=0.2).backward()
    bias = torch.zeros(3).requires_grad_()
    classification_loss(x @ weight.detach().T + bias, y, multilabel=True, smoothing=0.2).backward()
    lr = max(trial.lr for trial in trials)
    after = x @ (weight - lr * weight.grad).detach().T - lr * bias.grad
    loss = next(trial.loss for trial in trials if trial.lr == lr and trial.weight_decay == 0)
    assert loss == pytest.approx(float(classification_loss(after, y, multilabel=True)), abs=1e-6)


def test_a_head_is_kept_for_its_own_task_alone(run: Run) -> None:
    kept, new = (
        create_model("lite0", str(run.best), classes=sorted(COLOURS), task=task).head.state_dict()
        for task in ("multi", "single")
    )
    trained = load_model(run.best).head.state_dict()
    assert all(torch.equal(kept[key], trained[key]) for key in trained)
    assert not torch.equal(new["1.weight"], trained["1.weight"])


def test_a_description_of_before_there_were_labels_is_of_single_classes() -> None:
    model = create_model("lite0", None, classes="ab")
    before = {key: value for key, value in model.describe().items() if key != "task"}
    assert Classifier.rebuild(before, model.state_dict()).task == "single"


def test_a_run_resumes(colours: Path, tmp_path: Path) -> None:
    phases = "phases=[{train: head, epochs: 1, lr: 1e-2}]"
    run = Run(tmp_path / "run")
    where = ["data.source=manifest", f"data.root={colours}", f"run_dir={run.folder}"]
    assert main(["train", "folder", *where, phases, *TINY]) == 0
    before = json.loads(run.metrics.read_text())
    run.metrics.unlink()
    assert main(["train", "folder", f"resume={run.folder}"]) == 0
    after = json.loads(run.metrics.read_text())
    assert {key: after[key] for key in after if "/" in key} == {key: before[key] for key in before if "/" in key}


@pytest.mark.parametrize("setting", ["data.sampling=balanced", "optim.class_weights=balanced"])
def test_what_is_meant_for_classes_is_refused(
    setting: str, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["data.source=manifest", f"data.root={colours}", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", "folder", *where, PHASES, setting, *TINY]) == 2
    assert f"{setting.partition('=')[0]} is 'balanced', which is for one class an image" in capsys.readouterr().err


def test_it_is_exported_with_its_thresholds(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tmp_path / "model.safetensors"
    assert main(["export", str(run.folder), "--format", "safetensors", "--out", str(ours)]) == 0
    assert load_model(ours).thresholds == load_model(run.best).thresholds
    assert main(["export", str(run.folder), "--format", "timm", "--out", str(tmp_path / "timm.pth")]) == 0
    assert "the sigmoid, not the softmax" in capsys.readouterr().out


def test_smoothing_pulls_targets_towards_a_half() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    p = logits.sigmoid()
    expected = -(torch.tensor([[0.9, 0.1]]) * p.log() + torch.tensor([[0.1, 0.9]]) * (1 - p).log()).mean()
    loss = classification_loss(logits, targets, multilabel=True, smoothing=0.2)
    torch.testing.assert_close(loss, expected)


def test_average_precision_is_over_the_labels_that_occur() -> None:
    p = torch.tensor([[0.9, 0.2, 0.3], [0.8, 0.9, 0.1], [0.7, 0.1, 0.2]])
    y = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 0, 0]])
    # The first label: its images come second and third, (1/2 + 2/3) / 2; the second is perfect; the third has none.
    assert float(mean_average_precision(p, y)) == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    assert float(mean_average_precision(p, y * 0)) == 0


def test_thresholds_are_the_best_of_all() -> None:
    random = np.random.default_rng(0)
    p = random.random((60, 8)).round(1).astype(np.float32)  # rounded: many images have the same probability
    y = (random.random((60, 8)) < 0.2 + 0.5 * p).astype(np.float32)
    y[:, 3] = 0
    thresholds = best_thresholds(p, y)
    assert thresholds[3] == 0.5
    names = [str(number) for number in range(8)]
    best = multilabel_metrics(p, y, thresholds, names, "val")
    for limit in np.linspace(0, 1, 101):
        other = multilabel_metrics(p, y, [limit] * 8, names, "val")
        for name in names[:3] + names[4:]:
            assert best[f"val/f1/{name}"] >= other.get(f"val/f1/{name}", 0) - 1e-9


ATTRIBUTES = {
    "bluebell": "blue|bell",
    "buttercup": "yellow|cup",
    "colts_foot": "yellow|rays",
    "cowslip": "yellow|cluster",
    "crocus": "purple|cup",
    "daffodil": "yellow|trumpet",
    "daisy": "white|rays",
    "dandelion": "yellow|rays",
    "fritillary": "purple|bell",
    "iris": "",
    "lily_of_the_valley": "white|bell",
    "pansy": "",
    "snowdrop": "white|bell",
    "sunflower": "yellow|rays",
    "tiger_lily": "orange|trumpet",
    "tulip": "cup",
    "windflower": "white",
}
"""Colours and shapes of flowers17's species; where images of a species differ in colour, none is named."""


@pytest.mark.slow
def test_the_folder_recipe_learns_colours_and_shapes_of_real_flowers(real_data: Path, tmp_path: Path) -> None:
    images = real_data / "flowers17"
    with (tmp_path / "flowers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "split"])
        for path in sorted(images.glob("*/*/*")):
            split, species, _ = path.relative_to(images).parts
            writer.writerow([path.relative_to(images), ATTRIBUTES[species], split])
    run = Run(tmp_path / "run")
    where = [f"data.root={tmp_path / 'flowers.csv'}", f"data.images={images}", f"run_dir={run.folder}"]
    phases = "phases=[{train: head, epochs: 20, lr: auto}]"
    assert main(["train", "folder", "data.source=manifest", *where, phases]) == 0
    metrics = json.loads(run.metrics.read_text())
    assert metrics["test/map"] > 0.95
    assert metrics["test/macro_f1"] > 0.87
