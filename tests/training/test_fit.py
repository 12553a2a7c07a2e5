"""Whole trainings on tiny data: the run folder, the freezing, resuming, every setting that changes a step."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers import Logger
from tiny import TINY
from torch import Tensor

import effnet_ft
from effnet_ft.cli import main
from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.optimizers import OPTIMIZERS
from effnet_ft.recipe import load_recipe
from effnet_ft.recipe.plan import read_plan
from effnet_ft.runs.run_folder import Run, load_model, read_checkpoint
from effnet_ft.training.callbacks.epoch_table import COLUMNS
from effnet_ft.training.loggers import LOGGERS
from effnet_ft.training.module import FineTuner
from effnet_ft.training.phase_data import PhaseData

ROOT = Path(__file__).parent.parent.parent

RUN_FILES = {
    *("recipe.yaml", "plan.yaml", "split.csv", "classes.txt", "metrics.json", "metrics.csv", "predictions.csv"),
    *("report.html", "log.txt", "environment.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"),
}
ENDS = ("", "_low", "_high")
METRICS = {
    *(f"{part}/{name}{end}" for part in ("val", "test") for name in ("acc1",) for end in ENDS),
    *("val/macro_f1", "test/macro_f1", "val/ece", "test/ece"),
    *("val/ece_uncalibrated", "test/ece_uncalibrated", "temperature"),
    *("train_seconds", "images_per_second", "data_wait_fraction"),
}
SOMETIMES = {f"{part}/macro_f1{end}" for part in ("val", "test") for end in ENDS[1:]}
"""What is left out where all answers are right: drawing them again tells no interval."""


def run_phases(flowers: Path, folder: Path, phases: str, *more: str) -> Run:
    arguments = [f"data.root={flowers}", f"run_dir={folder}", f"phases=[{phases}]", *TINY, *more]
    assert main(["train", "folder", *arguments]) == 0
    return Run(folder)


def weights_of(run: Run) -> dict[str, Tensor]:
    state: dict[str, Tensor] = read_checkpoint(run.last)["state_dict"]
    return state


def test_the_run_folder_is_complete_and_holds_nothing_else(trained_run: Path) -> None:
    found = {path.relative_to(trained_run).as_posix() for path in trained_run.rglob("*") if path.is_file()}
    assert found == RUN_FILES


def test_metrics_are_named_and_possible(trained_run: Path) -> None:
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert METRICS <= set(metrics) <= METRICS | SOMETIMES  # three classes: no acc5
    assert all(0 <= metrics[name] <= 1 for name in set(metrics) - {"train_seconds", "images_per_second", "temperature"})
    assert metrics["train_seconds"] > 0
    assert metrics["images_per_second"] > 0


def test_the_table_has_a_row_an_epoch(trained_run: Path) -> None:
    with (trained_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["epoch"], row["phase"], row["train"]) for row in rows] == [
        ("1", "1", "head"),
        ("2", "1", "head"),
        ("3", "2", "stage7"),
    ]
    assert all(float(row[name]) >= 0 for row in rows for name in COLUMNS if name not in ("train",))


def test_predictions_agree_with_split_metrics_and_python(trained_run: Path) -> None:
    with (trained_run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (trained_run / "split.csv").open() as file:
        test = [row["path"] for row in csv.DictReader(file) if row["split"] == "test"]
    assert [row["path"] for row in rows] == test
    metrics = json.loads((trained_run / "metrics.json").read_text())
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert right / len(rows) == pytest.approx(metrics["test/acc1"])
    root = Path(load_recipe(trained_run / "recipe.yaml").data.root)
    answers = effnet_ft.load(trained_run).predict([root / row["path"] for row in rows], top_k=1)
    for row, [(name, probability)] in zip(rows, answers, strict=True):
        assert (row["prediction"], float(row["probability"])) == (name, pytest.approx(probability, abs=1e-5))


def test_the_plan_is_that_of_the_run(trained_run: Path) -> None:
    plan = read_plan(trained_run / "plan.yaml")
    assert (plan.revision, plan.changes, plan.run_dir) == (1, (), str(trained_run))
    assert (plan.images.train, plan.images.val, plan.images.test, plan.images.classes) == (24, 6, 6, 3)
    assert [(phase.train, phase.epochs, phase.batch_size) for phase in plan.phases] == [
        ("head", 2, 8),
        ("stage7", 1, 4),
    ]
    assert [phase.source.kind for phase in plan.phases] == ["stored", "stored"]
    steps = read_checkpoint(trained_run / "checkpoints" / "last.ckpt")["global_step"]
    assert steps == plan.phases[1].steps == 6
    log = (trained_run / "log.txt").read_text()
    assert "phase 2: stage7, 1 epoch, from stored activations" in log and "expected: about" in log
    assert "phase 1/2: train head (3.84 thousand of 3.37 million parameters), 2 epochs" in log


def test_the_runs_recipe_trains_the_same_run_again(trained_run: Path, tmp_path: Path) -> None:
    assert main(["train", str(trained_run / "recipe.yaml"), f"run_dir={tmp_path / 'again'}"]) == 0
    first, second = weights_of(Run(trained_run)), weights_of(Run(tmp_path / "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize(
    ("train", "batchnorm"), [("head", "train"), ("stage7", "train"), ("stage7", "frozen"), ("all", "train")]
)
def test_frozen_stages_keep_every_bit_and_trained_ones_move(
    train: str, batchnorm: str, flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: dict[str, Tensor] = {}
    step = FineTuner.training_step

    def hostile_step(self: FineTuner, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if not before:
            before.update({key: value.clone() for key, value in self.state_dict().items()})
        for module in self.modules():
            module.training = True  # as a careless callback would
        return step(self, batch, index)

    monkeypatch.setattr(FineTuner, "training_step", hostile_step)
    run = run_phases(flowers, tmp_path / "run", f"{{train: {train}, epochs: 1, lr: 1e-2, batchnorm: {batchnorm}}}")
    after = weights_of(run)
    cut = {"head": 9, "stage7": 7, "all": 0}[train]
    norms = {name for name, module in load_model(run.last).named_modules() if hasattr(module, "running_mean")}
    for key, value in before.items():
        name = key.removeprefix("model.")
        stage = int(name.split(".")[1]) if name.startswith("stages.") else 9
        held = stage < cut or (batchnorm == "frozen" and name.rpartition(".")[0] in norms)
        assert torch.equal(value, after[key]) == held, key


def test_the_best_epoch_of_all_phases_is_kept(flowers: Path, tmp_path: Path) -> None:
    ruin = "{train: head, epochs: 2, lr: 1e-2}, {train: all, epochs: 1, lr: 30, clip_norm: off, schedule: constant}"
    run = run_phases(flowers, tmp_path / "run", ruin)
    with run.table.open() as file:
        accuracies = [float(row["val/acc1"]) for row in csv.DictReader(file)]
    best = read_checkpoint(run.best)
    assert best["effnet_ft"]["phase"] == 0
    assert json.loads(run.metrics.read_text())["val/acc1"] == pytest.approx(max(accuracies), abs=1e-6)


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize("optimiser", OPTIMIZERS)
def test_gradients_are_clipped_in_mixed_precision_too(optimiser: str, flowers: Path, tmp_path: Path) -> None:
    phase = f"{{train: head, epochs: 1, lr: 1e-3, clip_norm: 1, name: {optimiser}}}"
    run = run_phases(flowers, tmp_path / "run", phase, "trainer.precision=bf16-mixed")
    assert run.table.is_file(), "Lightning refuses to clip for a fused optimiser"


SETTINGS = {
    "sgd": "name: sgd",
    "rmsprop": "name: rmsprop, momentum: 0.5",
    "step schedule": "schedule: step, step_epochs: 0.5, step_factor: 0.1",
    "constant schedule": "schedule: constant, warmup_epochs: 0",
    "weight decay": "weight_decay: 0.5",
    "no smoothing": "label_smoothing: 0",
    "averaging": "ema: 0.9",
    "clipping": "clip_norm: 0.001",
    "accumulation": "accumulate: 2",
    "strong augmentation": "augment: strong",
    "no augmentation": "augment: none",
    "dropout": "dropout: 0.9",
    "no stochastic depth": "drop_path: 0",
    "trained norms": "batchnorm: train",
    "batch size": "batch_size: 3",
}


@pytest.fixture(scope="module")
def plain_weights(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return weights_of(
        run_phases(flowers, tmp_path_factory.mktemp("plain") / "run", "{train: stage6, epochs: 1, lr: 1e-3}")
    )


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_of_a_phase_changes_what_is_trained(
    setting: str, flowers: Path, tmp_path: Path, plain_weights: dict[str, Tensor]
) -> None:
    phase = f"{{train: stage6, epochs: 1, lr: 1e-3, {SETTINGS[setting]}}}"
    other = weights_of(run_phases(flowers, tmp_path / "run", phase))
    assert all(torch.isfinite(value).all() for value in other.values())
    assert any(not torch.equal(other[key], value) for key, value in plain_weights.items())


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize(("whole", "batch", "accumulate"), [(10, 5, 2), (14, 7, 2), (20, 5, 4)])
def test_accumulated_batches_train_what_one_does(
    whole: int, batch: int, accumulate: int, flowers: Path, tmp_path: Path
) -> None:
    """Of the 24 images, the last step has fewer batches, or a smaller one, and its images still count alike."""
    phase = "phases=[{train: head, epochs: 2, lr: 0.1, name: sgd, dropout: 0}]"
    heads = []
    for size, together in ((whole, 1), (batch, accumulate)):
        run = Run(tmp_path / f"run{size}")
        own = [f"data.batch_size={size}", f"optim.accumulate={together}"]
        assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run.folder}", phase, *TINY, *own]) == 0
        heads.append(load_model(run.last).head.state_dict())
    for key, value in heads[0].items():
        torch.testing.assert_close(heads[1][key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("no_evaluation")
def test_early_stopping_ends_a_phase(flowers: Path, tmp_path: Path) -> None:
    run = run_phases(flowers, tmp_path / "run", "{train: head, epochs: 9, lr: 1e-9, patience: 1, batch_size: 30}")
    with run.table.open() as file:
        assert len(list(csv.DictReader(file))) < 9


def test_a_diverging_loss_ends_with_a_message(
    flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phase = "phases=[{train: all, epochs: 2, lr: 1e30, name: sgd, warmup_epochs: 0}]"
    arguments = [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", phase, *TINY]
    assert main(["train", "folder", *arguments]) == 2
    text = capsys.readouterr().err
    assert "the loss is" in text and "lower phases[0].lr" in text


@pytest.mark.parametrize("head", ["mlp", "cosine"])
def test_other_heads_train_and_load(head: str, flowers: Path, tmp_path: Path) -> None:
    run = run_phases(flowers, tmp_path / "run", "{train: head, epochs: 1, lr: 1e-2}", f"model.head={head}")
    assert effnet_ft.load(run.folder).classes == ("daisy", "lavender", "tulip")


def test_a_folder_that_brings_its_own_split(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = image_folder(**{"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 3})
    run = run_phases(root, tmp_path / "run", "{train: head, epochs: 1, lr: 1e-3}")
    metrics = json.loads(run.metrics.read_text())
    assert not any(name.startswith("test/") for name in metrics)
    assert len(run.predictions.read_text().splitlines()) == 1 + 5


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize("workers", [2])
def test_reading_processes_change_nothing(workers: int, trained_run: Path, flowers: Path, tmp_path: Path) -> None:
    recipe = str(trained_run / "recipe.yaml")
    assert main(["train", recipe, f"run_dir={tmp_path / 'run'}", f"data.workers={workers}"]) == 0
    first, second = weights_of(Run(trained_run)), weights_of(Run(tmp_path / "run"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_tensorboard_by_recipe(flowers: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = run_phases(flowers, tmp_path / "run", "{train: head, epochs: 1, lr: 1e-3}", "trainer.loggers=[tensorboard]")
    assert list((run.folder / "tensorboard").glob("events.*"))


class NotingLogger(Logger):
    """Notes what it is told, where others send it away."""

    name, version = "noting", 0

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}
        self.rows: list[tuple[dict[str, float], int | None]] = []

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        self.settings = params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((metrics, step))


def test_a_logger_gets_the_plan_every_epoch_and_the_result(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[NotingLogger] = []
    monkeypatch.setitem(LOGGERS, "wandb", lambda folder: made.append(NotingLogger(folder)) or made[-1])
    phases = "{train: head, epochs: 2, lr: 1e-3}, {train: stage8, epochs: 1, lr: 2e-3, label_smoothing: 0}"
    run = run_phases(flowers, tmp_path / "run", phases, "trainer.loggers=[wandb]")
    (logger,) = made
    assert logger.settings == read_plan(run.plan).flat()
    optim = "phases.1.optim"
    assert (logger.settings[f"{optim}.lr"], logger.settings[f"{optim}.label_smoothing"]) == (2e-3, 0)
    *epochs, (result, last) = logger.rows
    assert [step for _, step in epochs] == [1, 2, 3] and last == 3
    assert result == json.loads(run.metrics.read_text())


def test_training_in_python(flowers: Path, tmp_path: Path) -> None:
    phases = "phases=[{train: head, epochs: 1, lr: 1e-3}]"
    recipe = effnet_ft.load_recipe("folder", [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", phases, *TINY])
    run = effnet_ft.train(recipe)
    assert isinstance(effnet_ft.load(run.folder).model, Classifier)
    assert "EFFNET_FT_RUN_DIR" not in os.environ


def test_what_is_computed_once_counts_as_training(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_module = PhaseData.data_module

    def slow(self: PhaseData, *arguments: Any) -> Any:
        time.sleep(0.5)
        return data_module(self, *arguments)

    monkeypatch.setattr(PhaseData, "data_module", slow)
    phases = "phases=[{train: head, epochs: 1, lr: 1e-2}, {train: head, epochs: 1, lr: 1e-3}]"
    assert main(["train", "folder", f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", phases, *TINY]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["train_seconds"] >= 1.0
