"""Sweeps: random settings, faults of the grid, files written, and resuming after an interruption."""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.errors import RecipeError
from effnet_ft.recipe import Recipe, load_recipe
from effnet_ft.recipe.plan import read_plan
from effnet_ft.runs.run_folder import Run
from effnet_ft.sweep import Result, Sweep, over_seeds, plan_sweep, results_text, train_final
from effnet_ft.sweep.grid import draw_settings, read_grid
from effnet_ft.sweep.results import ranked
from effnet_ft.sweep.sweep_page import positions, write_sweep_page
from effnet_ft.training import fit
from effnet_ft.training.callbacks.epoch_table import EpochTable
from effnet_ft.utils.atomic_files import write_json

PHASE = "phases=[{train: head, epochs: 1, lr: 1e-3}]"

Arguments = Callable[..., list[str]]


@pytest.fixture
def command(flowers: Path, tmp_path: Path) -> Arguments:
    """The words of a sweep over head trainings in ``tmp_path/sweep``."""

    def words(*more: str) -> list[str]:
        return ["sweep", "folder", f"data.root={flowers}", PHASE, *TINY, "--out", str(tmp_path / "sweep"), *more]

    return words


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def plan(*grid: str, **options: Any) -> Sweep:
    return plan_sweep("folder", ["data.root=x", *options.pop("overrides", [])], grid, **options)


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


# Whole sweeps


def test_a_sweep_ranks_its_settings_and_trains_the_best_once_more(
    command: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sweep"
    grid = ["--grid", "phases.0.lr=1e-5,1e38,1e-2"]
    assert main(command(*grid)) == 0
    printed = capsys.readouterr().out
    assert "test accuracy" not in printed
    rows = rows_of(folder)
    assert list(rows[0]) == ["setting", "phases.0.lr", "val/acc1", "seconds", "state"]
    assert [row["state"] for row in rows] == ["finished", "diverged", "finished"]
    for row in (rows[0], rows[2]):
        metrics = json.loads((folder / row["setting"] / "metrics.json").read_text())
        assert float(row["val/acc1"]) == pytest.approx(metrics["val/acc1"], abs=1e-6)
        assert not any(name.startswith("test/") for name in metrics)
        assert load_recipe(folder / row["setting"] / "recipe.yaml").phases[0].lr == float(row["phases.0.lr"])
    best = max((rows[0], rows[2]), key=lambda row: float(row["val/acc1"]))
    table = printed[printed.index("setting  ") :].splitlines()
    assert table[1].split()[:2] == [best["setting"], best["phases.0.lr"]]
    assert table[3].split()[:2] == ["002", "1e38"]  # the one that diverged comes last
    page = (folder / "sweep.html").read_text()
    assert page.count("<circle") == 2
    assert page.index(f">{best['setting']}</th>") < page.index(">002</th>")

    trained: list[str] = []
    train = fit.train
    monkeypatch.setattr(
        fit, "train", lambda recipe, folder, **how: (trained.append(folder), train(recipe, folder, **how))
    )
    assert main(command(*grid, "--metric", "val/ece", "--final")) == 0
    assert trained == [str(folder / "final")]
    printed = capsys.readouterr().out
    assert "test/acc1" in printed
    assert "abstention (predict --precision) not fitted" in printed and "cannot abstain" not in page
    assert "cannot abstain" in (folder / "sweep.html").read_text()
    assert "cannot abstain either" in " ".join((folder / "final" / "report.html").read_text().split())
    rows = rows_of(folder)
    assert [row["state"] for row in rows] == ["finished", "diverged", "finished"]
    best = min((rows[0], rows[2]), key=lambda row: float(row["val/ece"]))
    recipe = load_recipe(folder / "final" / "recipe.yaml")
    assert (recipe.data.fit, recipe.phases[0].lr) == ("trainval", float(best["phases.0.lr"]))
    assert main(command(*grid, "--metric", "val/ece", "--final")) == 0  # all runs are finished: nothing is trained
    assert len(trained) == 1


def test_the_final_run_trains_at_the_rate_that_was_found(command: Arguments, tmp_path: Path) -> None:
    phases = "phases=[{train: head, epochs: 2, lr: auto, lr_scaling: linear}, {train: head, epochs: 1, lr: 1e-3}]"
    assert main(command(phases, "--grid", "optim.momentum=0.9", "--final")) == 0
    runs = [Run(tmp_path / "sweep" / name) for name in ("001", "final")]
    found, trained = (read_plan(run.plan).phases[0].optim for run in runs)
    assert found.lr is not None
    assert (found.lr, found.weight_decay) == (trained.lr, trained.weight_decay)
    for run in runs:
        assert f"learning rate {found.lr:g}, 8 images a step" in run.log.read_text()
        assert "linear" not in run.log.read_text()  # only a rate that the recipe gives is scaled


def test_seeds_are_not_ranked(command: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("--grid", "seed=3,4")) == 0
    rows, printed = rows_of(tmp_path / "sweep"), capsys.readouterr().out
    values = [float(row["val/acc1"]) for row in rows]
    mean, spread = sum(values) / 2, abs(values[0] - values[1]) / 2**0.5
    assert f"\n{mean:.4f}" in printed and f"{spread:.4f}" in printed and "2 of 2" in printed
    page = (tmp_path / "sweep" / "sweep.html").read_text()
    assert f"{mean:.2%}" in page and f"{spread:.2%}" in page
    for text in (printed[printed.index("setting  ") :], page.partition("<h1>")[2]):
        assert "best" not in text
    assert "a final run takes the first seed" in printed


def test_settings_rank_by_their_mean_over_seeds(tmp_path: Path) -> None:
    sweep = plan("seed=0,1,2", "phases.0.lr=1e-3,1e-2", folder=make_folder(tmp_path / "sweep"))
    values = (0.9, 0.79, 0.7, 0.81, 0.5, 0.8)  # the highest is of the setting with the lower mean
    results = [
        Result(n, setting, value, 1, "finished")
        for n, (setting, value) in enumerate(zip(sweep.settings, values, strict=True), 1)
    ]
    best_first = ranked(results[::-1], "val/acc1")
    assert [result.number for result in best_first] == [2, 4, 6, 1, 3, 5]
    means = over_seeds(best_first)
    assert [mean.setting for mean in means] == [{"phases.0.lr": "1e-2"}, {"phases.0.lr": "1e-3"}]
    assert [mean.value for mean in means] == pytest.approx([0.8, 0.7])
    assert [mean.spread for mean in means] == pytest.approx([0.01, 0.2])
    page = write_sweep_page(sweep, best_first).read_text()
    assert "the best by mean val/acc1 over seeds first" in page and "best 1e-2: 80.00%" in page and "90.00%" in page
    results[3].state, results[3].value = "diverged", math.nan
    assert [result.number for result in ranked(results, "val/acc1")] == [1, 3, 5, 2, 6, 4]
    assert "2 of 3" in results_text(ranked(results, "val/acc1"), "val/acc1")


def test_an_interrupted_sweep_resumes(
    command: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sweep"
    words = command("--grid", "optim.weight_decay=0,1e-4,1e-2")
    row, train = EpochTable.on_train_epoch_end, fit.train
    seen: list[tuple[str, bool]] = []

    def stop_second(self: EpochTable, *arguments: Any) -> None:
        if self.path.parent.name == "002":
            raise KeyboardInterrupt
        row(self, *arguments)

    def watch(recipe: Recipe, folder: str, resume: bool = False, test: bool = True) -> Run:
        seen.append((Path(folder).name, resume))
        return train(recipe, folder, resume, test)

    with monkeypatch.context() as patch:
        patch.setattr(EpochTable, "on_train_epoch_end", stop_second)
        assert main(words) == 130
    command_line = capsys.readouterr().err.partition("to resume: ")[2]
    assert [line["state"] for line in rows_of(folder)] == ["finished", "waiting", "waiting"]
    first = (folder / "001" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    monkeypatch.setattr(fit, "train", watch)
    assert main(shlex.split(command_line)[1:]) == 0
    assert seen == [("002", True), ("003", False)]
    assert (folder / "001" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == first
    assert [line["state"] for line in rows_of(folder)] == ["finished"] * 3


def test_a_setting_interrupted_before_its_first_checkpoint_starts_again(
    command: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = command("--grid", "optim.weight_decay=0")

    def stop(recipe: Recipe, folder: str, resume: bool, test: bool) -> Run:
        run = Run(folder)
        run.checkpoints.mkdir(parents=True)
        recipe.save(run.recipe)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "train", stop)
        assert main(words) == 130
    assert main(words) == 0
    assert (tmp_path / "sweep" / "001" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (["--grid", "optim.weight_decay=0,1e-3"], "optim.weight_decay: 0,1e-4 there, 0,1e-3 now"),
        (["--grid", "seed=0,1"], "optim.weight_decay: 0,1e-4 there, not set now"),
        (["--grid", "optim.weight_decay=0,1e-4", "model.head=mlp"], "model.head: linear there, mlp now"),
        (["--grid", "optim.weight_decay=0,1e-4", "--random", "2"], "random: not set there, 2 now"),
    ],
)
def test_another_sweep_in_the_same_folder_is_refused(
    changed: list[str],
    difference: str,
    command: Arguments,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*arguments: Any, **how: Any) -> Run:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "train", stop)
    assert main(command("--grid", "optim.weight_decay=0,1e-4")) == 130
    capsys.readouterr()
    before = (tmp_path / "sweep" / "sweep.yaml").read_bytes()
    assert main(command(*changed)) == 2
    message = capsys.readouterr().err
    assert "holds a different sweep" in message
    assert difference in message
    assert (tmp_path / "sweep" / "sweep.yaml").read_bytes() == before


def test_a_folder_with_other_files_is_left_alone(
    command: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "thesis.txt").write_text("precious")
    assert main(command("--grid", "seed=0,1")) == 2
    assert "already holds other files" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--grid phases.0.epoch=1,2", ["unknown key 'phases[0].epoch'", "did you mean 'epochs'?"]),
        ("--grid optim.decay=0,1", ["unknown key 'optim.decay'"]),
        ("--grid phases.7.lr=1e-3", ["there is no entry 7"]),
        ("--grid phases.0.lr=", ["a value is missing"]),
        ("--grid phases.0.lr=1e-3,,1e-2", ["a value is missing"]),
        ("--grid phases.0.lr=1e-3,1e-3", ["1e-3 is given twice"]),
        ("--grid phases.0.lr", ["has no values"]),
        ("--grid phases.0.epochs=1,many", ["phases[0].epochs is 'many', expected a whole number at least 1"]),
        ("--grid phases.0.lr=1e-4:1e-1:log", ["is a range", "--random N"]),
        ("--grid seed=0,1 --grid seed=2", ["seed is given 2 times"]),
        ("--grid run_dir=a,b", ["each setting gets its own folder"]),
        ("--grid seed=0,1 --random 3", ["the lists have only 2 settings"]),
        ("--grid phases.0.lr=0:1:log --random 3", ["must start above 0"]),
        ("--grid phases.0.lr=1:0.1 --random 3", ["1 is not below 0.1"]),
        ("--grid phases.0.lr=1e-4:high --random 3", ["write a range as phases.0.lr=low:high"]),
        ("--grid phases.0.epochs=1:2.5 --random 3", ["phases.0.epochs=1:2.5: expected a whole number at least 1"]),
        ("--grid phases.0.epochs=1:2 --random 3", ["only about 2 settings"]),
        ("--grid optim.momentum=0.5:2 --random 9", ["optim.momentum=0.5:2: expected a number at least 0 and below 1"]),
        ("--grid seed=0,1 --metric test/acc1", ["--metric is 'test/acc1'", "bias the final test result"]),
        ("--grid seed=0,1 --metric val/macrof1", ["did you mean 'val/macro_f1'?"]),
        ("--grid seed=0,1 run_dir=here", ["--out names the folder"]),
        ("--grid seed=0,1 trainer.devices=2", ["a sweep trains on one device"]),
        ("--grid seed=0,1 --final trainer.patience=3", ["data.fit is 'trainval'", "trainer.patience=off"]),
        ("--grid optim.name=adamw,sdg --grid model.head=linear,mpl", ["2 recipe errors", "'sgd'", "'mlp'"]),
    ],
)
def test_a_bad_grid_is_one_message_before_anything_is_trained(
    words: str, parts: list[str], command: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(*words.split())) == 2
    message = capsys.readouterr().err
    assert message.count("effnet-ft: ") == 1
    assert [part for part in parts if part not in message] == []
    assert not (tmp_path / "sweep").exists()


def test_faults_of_the_images_stop_the_sweep(
    command: Arguments, image_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("--grid", "seed=0,1", f"data.root={image_folder(a=2, b=9)}")) == 2
    assert "a: 2" in capsys.readouterr().err
    assert [row["state"] for row in rows_of(tmp_path / "sweep")] == ["waiting", "waiting"]


def test_a_final_run_needs_test_images(
    command: Arguments, image_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(**{"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    assert main(command("--grid", "seed=0,1", f"data.root={root}", "--final")) == 2
    assert "there are none" in capsys.readouterr().err
    assert [row["state"] for row in rows_of(tmp_path / "sweep")] == ["finished", "waiting"]


def test_the_final_run_takes_the_learning_rate_that_the_best_setting_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = plan("seed=0,1", folder=tmp_path / "sweep", final=True)  # the recipe's first phase searches
    searched = plan_of("optim.lr_scaling=sqrt")
    optim = replace(searched.phases[0].optim, lr=0.02, weight_decay=1e-5)
    found = searched.with_phase(replace(searched.phases[0], optim=optim), "learning rate 0.02")
    found.save(make_folder(sweep.run(2).folder) / "plan.yaml")
    trained: list[Recipe] = []

    def watch(recipe: Recipe, folder: str, resume: bool, test: bool) -> None:
        assert (folder, resume, test) == (str(sweep.final.folder), False, True)
        trained.append(recipe)
        write_json({"test/acc1": 0.5}, make_folder(Path(folder)) / "metrics.json")

    monkeypatch.setattr(fit, "train", watch)
    assert train_final(sweep, Result(2, sweep.settings[1])) == {"test/acc1": 0.5}
    assert (trained[0].seed, trained[0].data.fit) == (1, "trainval")
    assert (trained[0].phases[0].lr, trained[0].phases[0].overrides["weight_decay"]) == (0.02, 1e-05)
    assert "weight_decay" not in trained[0].phases[1].overrides


def test_a_sweep_of_version_0_1_has_its_rates_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = plan("seed=0,1", folder=tmp_path / "sweep", final=True)
    write_json({"1": {"lr": 0.02, "weight_decay": 1e-05}}, make_folder(sweep.run(2).folder) / "learning_rates.json")
    trained: list[Recipe] = []

    def watch(recipe: Recipe, folder: str, resume: bool, test: bool) -> None:
        trained.append(recipe)
        write_json({"test/acc1": 0.5}, make_folder(Path(folder)) / "metrics.json")

    monkeypatch.setattr(fit, "train", watch)
    train_final(sweep, Result(2, sweep.settings[1]))
    assert (trained[0].phases[0].lr, trained[0].phases[0].overrides["weight_decay"]) == (0.02, 1e-05)


def test_a_final_run_of_another_setting_is_not_mistaken_for_the_best(tmp_path: Path) -> None:
    sweep = plan("phases.0.lr=1e-3,1e-2", folder=tmp_path / "sweep", final=True)
    final = sweep.recipe_at(sweep.settings[0], sweep.final, "data.fit=trainval")
    final.save(make_folder(sweep.final.folder) / "recipe.yaml")
    write_json({"test/acc1": 0.5}, sweep.final.metrics)
    assert train_final(sweep, Result(1, sweep.settings[0])) == {"test/acc1": 0.5}
    with pytest.raises(RecipeError, match=r"no longer the best.*\n.*phases\.0\.lr: 0\.001 there, 0\.01 now"):
        train_final(sweep, Result(2, sweep.settings[1]))


# Settings


def test_a_grid_is_every_combination_in_order() -> None:
    sweep = plan("phases[0].lr=1e-3,1e-2", "trainer.loggers=[],[tensorboard]")
    assert [tuple(setting.values()) for setting in sweep.settings] == [
        *(("1e-3", "[]"), ("1e-3", "[tensorboard]"), ("1e-2", "[]"), ("1e-2", "[tensorboard]")),
    ]
    assert list(sweep.settings[0]) == ["phases.0.lr", "trainer.loggers"]
    assert sweep.folder == Path("runs/x-lite0-sweep")


def test_whole_lists_of_phases_are_values() -> None:
    head, both = (
        "[{train: head, epochs: 1, lr: 1e-3}]",
        "[{train: head, epochs: 1, lr: 1}, {train: all, epochs: 1, lr: 1}]",
    )
    assert [setting["phases"] for setting in plan(f"phases={head},{both}").settings] == [head, both]


def test_drawn_settings_are_repeatable_different_and_within_their_ranges() -> None:
    grid = ["phases.0.lr=1e-4:1e-1:log", "optim.momentum=0.0:0.5", "phases.0.epochs=2:5", "optim.name=sgd,rmsprop"]
    faults: list[str] = []
    axes = read_grid(grid, True, faults)
    settings = draw_settings(axes, 40, 3, faults)
    assert faults == []
    assert settings == draw_settings(axes, 40, 3, faults)
    assert settings != draw_settings(axes, 40, 4, faults)
    assert settings[:2] == plan(*grid, random=2, seed=3).settings
    assert len({tuple(setting.values()) for setting in settings}) == 40
    rates = sorted(float(setting["phases.0.lr"]) for setting in settings)
    assert 1e-4 <= rates[0] < 1e-3 < 3e-2 < rates[-1] <= 1e-1
    assert 8 <= sum(rate < 10**-2.5 for rate in rates) <= 32  # half of them; linear draws would be above nearly always
    assert all(0 <= float(setting["optim.momentum"]) <= 0.5 for setting in settings)
    assert {setting["phases.0.epochs"] for setting in settings} == {"2", "3", "4", "5"}
    assert sum(setting["optim.name"] == "sgd" for setting in settings) == 20


def test_listed_values_are_drawn_without_repetition() -> None:
    grid = ["phases.0.lr=1e-3,1e-2,1e-1", "seed=0,1,2,3"]
    drawn = [tuple(setting.values()) for setting in plan(*grid, random=12).settings]
    every = [tuple(setting.values()) for setting in plan(*grid).settings]
    assert sorted(drawn) == sorted(every)
    assert drawn != every
    assert len(set(plan(*grid, random=5).settings[0])) == 2


def test_a_sweep_uses_one_device_of_many() -> None:
    sweep = plan("seed=0,1")
    assert sweep.recipe_at(sweep.settings[0], sweep.run(1)).trainer.devices == 1
    named = plan("seed=0,1", overrides=["trainer.devices='1,'"])
    assert named.recipe_at(named.settings[0], named.run(1)).trainer.devices == "1,"


# Axes


@pytest.mark.parametrize(
    ("texts", "places"),
    [
        (["1e-2", "1e-4", "1e-3"], [1, 0, 0.5]),  # the logarithm
        (["0.1", "0.2", "0.4"], [0, 1 / 3, 1]),  # the value
        (["0", "1e-5", "1e-3"], [1 / 6, 1 / 2, 5 / 6]),  # no logarithm of zero
        (["sgd", "adamw"], [0.25, 0.75]),
        (["auto", "1e-3"], [0.25, 0.75]),
        (["7"], [0.5]),
    ],
)
def test_values_stand_where_they_belong(texts: list[str], places: list[float]) -> None:
    found, ticks = positions(texts)
    assert [found[text] for text in texts] == pytest.approx(places)
    assert {label for _, label in ticks} <= set(texts)


def test_what_was_drawn_by_equal_differences_stands_so() -> None:
    assert plan("phases.0.lr=1e-4:1e-1:log", "optim.momentum=0:0.9", "seed=0,1", random=2).linear == ("optim.momentum",)
    assert positions(["0.01", "0.5", "0.99"], linear=True)[0]["0.5"] == pytest.approx(0.5)


def test_an_axis_of_many_drawn_numbers_has_round_labels() -> None:
    _, ticks = positions([f"{10 ** (-4 + 3 * number / 19):.4g}" for number in range(20)])
    assert [label for _, label in ticks] == ["0.0001", "0.001", "0.01", "0.1"]
    assert [place for place, _ in ticks] == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-6)
