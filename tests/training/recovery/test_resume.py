"""Interrupted runs, in every phase and by every kind of end, go on to what they would have been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of
from same_runs import assert_same
from tiny import TINY

from effnet_ft.cli import main
from effnet_ft.data.sampling import DistributedBatchSampler, EpochSampler
from effnet_ft.distributed import collectives
from effnet_ft.errors import RecipeError
from effnet_ft.planning.facts import Machine
from effnet_ft.planning.phases import PhaseSettings, with_batch
from effnet_ft.recipe import load_recipe
from effnet_ft.recipe.plan import BatchSource, read_plan
from effnet_ft.runs.resume_target import choose_run, differences, print_once
from effnet_ft.runs.run_folder import Run, read_checkpoint
from effnet_ft.runs.run_lock import lock_path, run_lock
from effnet_ft.training import fit, setup, trainer
from effnet_ft.training.module import FineTuner
from effnet_ft.training.phase import PhaseTrainer
from effnet_ft.training.phase_data import PhaseData
from effnet_ft.training.recovery.resume import ResumeState, load_resume_state, resumed_plan
from effnet_ft.training.recovery.signals import SIGNALS

ROOT = Path(__file__).parents[3]

PHASES = (
    "phases=[{train: head, epochs: 2, lr: 1e-2, sampling: balanced}, "
    "{train: stage7, epochs: 2, lr: 1e-3, ema: 0.9}, {train: all, epochs: 2, lr: 1e-3, accumulate: 2, batch_size: 4}]"
)

Place = tuple[int, int, int]
"""Phase, epoch and batch, from 0."""


class Killed(BaseException):
    """Ends a training as a kill would: no one catches it, and nothing is written after it."""


@pytest.fixture(scope="module")
def settings(flowers: Path) -> list[str]:
    return [f"data.root={flowers}", PHASES, *TINY, "trainer.checkpoint_minutes=0"]


@pytest.fixture(scope="module")
def whole(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "folder", *settings, f"run_dir={folder}"]) == 0
    return Run(folder)


def end_at(place: Place, end: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Call ``end`` before the step at ``place``."""
    step = FineTuner.training_step

    def ending(self: FineTuner, batch: Any, batch_idx: int) -> Any:
        if (self.phase, self.current_epoch, batch_idx) == place:
            end()
        return step(self, batch, batch_idx)

    patch.setattr(FineTuner, "training_step", ending)


def kill() -> None:
    raise Killed


def kill_before(phase: int, patch: pytest.MonkeyPatch) -> None:
    """End a training when ``phase`` is about to begin: the phase before it is over."""
    data_module = PhaseData.data_module

    def ending(self: PhaseData, index: int, *arguments: Any) -> Any:
        if index == phase:
            raise Killed
        return data_module(self, index, *arguments)

    patch.setattr(PhaseData, "data_module", ending)


def killed(ending: Place | int, settings: list[str], patch: pytest.MonkeyPatch) -> None:
    """Train until a place, or until a phase begins, and end there."""
    with patch.context() as patched:
        if isinstance(ending, int):
            kill_before(ending, patched)
        else:
            end_at(ending, kill, patched)
        with pytest.raises(Killed):
            main(["train", "folder", *settings])


PLACES: Sequence[Place | int] = (
    *(0, (0, 0, 0), (0, 1, 1), 1, (1, 0, 2), (1, 1, 0), (1, 1, 1), 2),  # phase 2 begins with averaged weights
    *((2, 0, 3), (2, 1, 2), (2, 1, 5)),
)


def test_a_run_killed_in_every_phase_ends_as_one_that_was_not(
    settings: list[str], whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*settings, f"run_dir={tmp_path / 'run'}", "resume=auto"]
    for place in PLACES:
        killed(place, command, monkeypatch)
    assert main(["train", "folder", *command, "data.workers=2"]) == 0
    assert_same(Run(tmp_path / "run"), whole)


def test_kill_minus_nine_while_a_checkpoint_is_written(settings: list[str], whole: Run, tmp_path: Path) -> None:
    script = """
import os, signal, sys
from effnet_ft.cli import main
from effnet_ft.planning import estimate
from effnet_ft.planning.speed import Speed
from effnet_ft.training.callbacks import checkpoint

estimate.measured_speed = lambda *_: Speed(1e-3, 1e-3, 1e-3, 1e6)  # which takes its time
written = 0

def replace(part, path, real=checkpoint.atomic_replace):
    global written
    if path.name == "last.ckpt" and (path.parent / "previous.ckpt").is_file() and written > 9:
        os.truncate(part, 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    written += 1
    real(part, path)

checkpoint.atomic_replace = replace
sys.exit(main(sys.argv[1:]))
"""
    run = Run(tmp_path / "run")
    command = [sys.executable, "-c", script, "train", "folder", *settings, f"run_dir={run.folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not run.last.exists() and run.previous.exists() and (run.checkpoints / "last.ckpt.part").exists()
    assert main(["train", "folder", f"resume={run.folder}"]) == 0
    assert "last.ckpt is missing: falling back" in run.log.read_text()
    assert_same(run, whole)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_the_step_end_and_is_the_exit_code(
    number: signal.Signals, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, handlers = Run(tmp_path / "run"), [signal.getsignal(each) for each in SIGNALS]
    command = [*settings, "trainer.checkpoint_minutes=60", f"run_dir={run.folder}"]
    with monkeypatch.context() as patch:
        end_at((1, 1, 1), lambda: os.kill(os.getpid(), number), patch)
        assert main(["train", "folder", *command]) == 128 + number
    assert "to resume: " in (told := capfd.readouterr().err) and f"resume={run.folder}" in told
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    assert read_checkpoint(run.last)["callbacks"]["checkpoint"]["place"] == [1, 2]


def test_a_signal_outside_of_training_stops_at_once(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ending(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal did not end it")

    monkeypatch.setattr(setup, "build_model", ending)
    assert main(["train", "folder", *settings, f"run_dir={tmp_path / 'run'}"]) == 143


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_to_the_same(flowers: Path, tmp_path: Path) -> None:
    phases = "phases=[{train: head, epochs: 1, lr: 1e-2}, {train: all, epochs: 8, lr: 1e-3, batchnorm: frozen}]"
    settings = [f"data.root={flowers}", phases, *TINY, "trainer.devices=2", "trainer.checkpoint_minutes=60"]
    runs = Run(tmp_path / "whole"), Run(tmp_path / "run")
    command = [sys.executable, ROOT / "train.py", "folder", *settings]
    assert subprocess.run([*command, f"run_dir={runs[0].folder}"], timeout=300).returncode == 0
    command += [f"run_dir={runs[1].folder}", "resume=auto"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "phase 2/2 all    epoch 2/8" in line:
            process.send_signal(signal.SIGTERM)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert errors.count("to resume: ") == 1
    assert subprocess.run(command, timeout=300).returncode == 0
    assert "resumed in phase 2" in runs[1].log.read_text()
    assert_same(runs[1], runs[0])


def test_slurm_does_not_requeue_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    monkeypatch.setattr(trainer.SLURMEnvironment, "detect", lambda: True)
    for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "NNODES": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    built = trainer.build_trainer(plan.trainer, plan.phases[0], tmp_path, [], [])
    environment = built._accelerator_connector.cluster_environment
    assert isinstance(environment, trainer.SLURMEnvironment) and not environment.auto_requeue


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.fixture(scope="module")
def half(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed within the second epoch of its second phase. Read only."""
    folder = tmp_path_factory.mktemp("half") / "run"
    with pytest.MonkeyPatch.context() as patch:
        killed((1, 1, 2), [*settings, f"run_dir={folder}"], patch)
    return folder


@pytest.mark.parametrize("harm", [cut_short, change_a_byte])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    harm: Callable[[Path], None], half: Path, whole: Run, tmp_path: Path
) -> None:
    run = Run(shutil.copytree(half, tmp_path / "run"))
    harm(run.last)
    assert main(["train", "folder", f"resume={run.folder}"]) == 0
    assert "falling back to the checkpoint before it" in run.log.read_text()
    assert_same(run, whole)


def test_without_a_whole_checkpoint_nothing_is_guessed(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(shutil.copytree(half, tmp_path / "run"))
    for path in (run.last, run.previous):
        change_a_byte(path)
    assert main(["train", "folder", f"resume={run.folder}"]) == 2
    assert "no checkpoint in" in capsys.readouterr().err


def test_a_damaged_best_checkpoint_is_replaced(half: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(half, tmp_path / "run"))
    cut_short(run.best)
    left = load_resume_state(run)
    assert left is not None and left.best == float("-inf")
    assert read_checkpoint(run.best)["epoch"] == read_checkpoint(run.last)["epoch"]


def test_steps_that_are_in_the_checkpoint_are_not_trained_again(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(shutil.copytree(half, tmp_path / "run"))
    seen: list[Place] = []

    def noting(self: FineTuner, batch: Any, batch_idx: int) -> Any:
        seen.append((self.phase, self.current_epoch, batch_idx))
        raise Killed

    monkeypatch.setattr(FineTuner, "training_step", noting)
    with pytest.raises(Killed):
        main(["train", "folder", f"resume={run.folder}"])
    assert seen == [(1, 1, 2)]


def test_batches_that_are_done_are_not_asked_for() -> None:
    whole, rest = (DistributedBatchSampler(EpochSampler(10, (3,)), 3) for _ in range(2))
    rest.start_at(1, 2)
    for epoch in (1, 2):
        for batches in (whole, rest):
            batches.set_epoch(epoch)
        assert list(rest) == list(whole)[2 if epoch == 1 else 0 :]
        assert len(rest) == len(whole)


def test_a_phase_that_patience_ended_trains_no_more(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = "phases=[{train: head, epochs: 9, lr: 1e-9, patience: 1, batch_size: 30}]"
    command = [f"data.root={flowers}", phases, *TINY, f"run_dir={tmp_path / 'run'}"]

    def ending(*arguments: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fit, "evaluate_and_report", ending)
        with pytest.raises(Killed):
            main(["train", "folder", *command])
    table = (tmp_path / "run" / "metrics.csv").read_text()
    monkeypatch.setattr(FineTuner, "training_step", ending)
    assert main(["train", "folder", f"resume={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run" / "metrics.csv").read_text() == table
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["train_seconds"] > 0


@pytest.mark.parametrize("resume", ["auto", "RUN"])
def test_a_finished_run_is_left_alone(
    resume: str, whole: Run, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")}
    command = [*settings, f"run_dir={whole.folder}", "resume=auto"]
    assert main(["train", "folder", *(command if resume == "auto" else [f"resume={whole.folder}"])]) == 0
    assert "is already finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")} == before


@pytest.mark.parametrize("resume", ["auto", "RUN"])
@pytest.mark.parametrize(
    "change", ["seed=1", "phases.1.lr=2e-3", "phases.1.ema=off", "store.views=2", "optim.momentum=0.5"]
)
def test_a_key_that_would_change_the_run_is_refused(
    resume: str, change: str, half: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    known = [*settings, f"run_dir={half}", "resume=auto"] if resume == "auto" else [f"resume={half}"]
    assert main(["train", "folder", *known, change]) == 2
    told, key = capsys.readouterr().err, change.partition("=")[0]
    assert f"{key}: " in told and " in the run, " in told and "only data.root" in told


def test_keys_that_change_no_number_may_change(half: Path, settings: list[str]) -> None:
    free = ["data.workers=3", "trainer.checkpoint_minutes=5", "trainer.loggers=[]", "data.decoded=off"]
    recipe, _, resumed = choose_run("folder", free, str(half))
    assert resumed and (recipe.data.workers, recipe.trainer.checkpoint_minutes) == (3, 5)
    recipe, _, resumed = choose_run("folder", [*settings, *free, f"run_dir={half}"], "auto")
    assert resumed and (recipe.data.workers, recipe.data.decoded) == (3, "off")


@pytest.mark.parametrize("given", [[], ["trainer.devices=2"], ["trainer.devices=auto"]])
def test_a_run_resumes_with_as_many_processes(given: list[str], settings: list[str], tmp_path: Path) -> None:
    """Whatever ``auto`` would be on this machine; so a smaller number is neither needed nor advised."""
    plan_of(*settings, machine=Machine(launched=(2, 1))).save(tmp_path / "plan.yaml")
    load_recipe("folder", settings).save(tmp_path / "recipe.yaml")
    trainer = choose_run("folder", given, str(tmp_path))[0].trainer
    assert (trainer.devices, trainer.num_nodes) == (2, 1)
    with pytest.raises(RecipeError, match=r"trainer\.devices: 2 in the run, 1 now"):
        choose_run("folder", ["trainer.devices=1"], str(tmp_path))


def test_too_few_images_for_the_processes_leave_no_run(flowers: Path, tmp_path: Path) -> None:
    """The advice to lower ``trainer.devices`` is for a new run: there is none to resume."""
    phase = "phases=[{train: head, epochs: 1, lr: 1}]"
    settings = [f"data.root={flowers}", phase, *TINY, "trainer.devices=4", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, "train.py", "folder", *settings], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert "lower trainer.devices" in done.stderr and "resume" not in done.stderr


def test_a_batch_that_was_made_to_fit_is_no_change(settings: list[str], tmp_path: Path) -> None:
    there, plan = load_recipe("folder", settings), plan_of(*settings)
    plan.with_phase(with_batch(plan, plan.phases[0], 2, 4), "8 images do not fit").save(tmp_path / "plan.yaml")
    run = Run(tmp_path)
    assert differences(there, load_recipe("folder", settings), run) == []
    assert differences(there, load_recipe("folder", [*settings, "data.batch_size=auto"]), run) == []
    larger = differences(there, load_recipe("folder", [*settings, "data.batch_size=16"]), run)
    assert "phases.0.batch_size: 2 in the run, 16 now" in larger


def test_what_was_decided_for_auto_is_no_change(settings: list[str], tmp_path: Path) -> None:
    free = [text for text in settings if not text.startswith(("data.image_size", "trainer.accelerator"))]
    plan_of(*free).save(tmp_path / "plan.yaml")
    there, run = load_recipe("folder", free), Run(tmp_path)
    same = ["data.image_size=224", "model.weights=lite", "trainer.accelerator=cpu", "phases.2.dropout=0.2"]
    assert differences(there, load_recipe("folder", [*free, *same]), run) == []
    other = differences(there, load_recipe("folder", [*free, "data.image_size=64", "model.weights=none"]), run)
    assert {"data.image_size: 224 in the run, 64 now", "model.weights: lite in the run, none now"} <= {*other}


@pytest.mark.parametrize("first", [[], ["data.batch_size=4", "optim.accumulate=2"]])
def test_a_batch_that_makes_the_same_step_is_no_change(settings: list[str], first: list[str]) -> None:
    there = load_recipe("folder", [*settings, *first])
    second = [] if first else ["data.batch_size=4", "optim.accumulate=2"]
    assert differences(there, load_recipe("folder", [*settings, *second])) == []
    assert differences(there, load_recipe("folder", [*settings, "data.batch_size=4", "optim.accumulate=1"])) != []
    assert (
        differences(there, load_recipe("folder", [*settings, "phases.2.batch_size=2", "phases.2.accumulate=4"])) == []
    )


@pytest.mark.parametrize("resume", ["auto", "RUN"])
def test_what_the_messages_name_as_cure_is_taken(resume: str, half: Path, settings: list[str]) -> None:
    cure = ["data.batch_size=4", "optim.accumulate=2", "trainer.checkpointing=on"]
    given = [*settings, f"run_dir={half}"] if resume == "auto" else []
    recipe, _, resumed = choose_run("folder", [*given, *cure], str(half) if resume == "RUN" else "auto")
    second = PhaseSettings(recipe, recipe.phases[1])
    assert resumed and recipe.trainer.checkpointing == "on"
    assert (second["batch_size"], second["accumulate"]) == (4, 2)


@pytest.mark.parametrize("place", [(0, 0, 2), (0, 1, 0)])
def test_a_smaller_batch_goes_on_after_the_images_that_are_done(
    place: Place, flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = "phases=[{train: head, epochs: 2, lr: 1e-2}]"
    run = Run(tmp_path / "run")
    settings = [f"data.root={flowers}", phases, *TINY, "trainer.checkpoint_minutes=0", f"run_dir={run.folder}"]
    killed(place, settings, monkeypatch)
    steps = read_checkpoint(run.last)["global_step"]
    seen: list[Place] = []
    step = FineTuner.training_step

    def noting(self: FineTuner, batch: Any, batch_idx: int) -> Any:
        seen.append((self.phase, self.current_epoch, batch_idx))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(FineTuner, "training_step", noting)
    command = [f"resume={run.folder}", "data.batch_size=4", "optim.accumulate=2"]
    assert main(["train", "folder", *command]) == 0
    assert seen[0] == (0, place[1], 2 * place[2])
    epoch = [batch for _, number, batch in seen if number == 1]
    rest = [batch for _, number, batch in seen if number == place[1]]
    assert epoch == list(range(len(epoch))) and rest == epoch[2 * place[2] :]
    done = read_checkpoint(run.last)["global_step"]
    assert done - steps == -(-len(rest) // 2) + (0 if place[1] else -(-len(epoch) // 2))


def test_a_resumed_run_remembers_where_its_images_are_now(half: Path, flowers: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(half, tmp_path / "run"))
    moved = shutil.copytree(flowers, tmp_path / "moved")
    assert main(["train", "folder", f"resume={run.folder}", f"data.root={moved}"]) == 0
    assert load_recipe(run.recipe).data.root == str(moved)


@pytest.fixture
def at_work(half: Path, tmp_path: Path) -> Iterator[tuple[Run, subprocess.Popen[str]]]:
    """A run in ``tmp_path/runs`` in which another process trains."""
    run = Run(shutil.copytree(half, tmp_path / "runs" / "run"))
    script = """
import sys
from pathlib import Path
from effnet_ft.runs.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(run.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield run, process
        process.kill()


def test_a_run_that_is_trained_is_not_joined(
    at_work: tuple[Run, subprocess.Popen[str]], settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, process = at_work
    before = sorted(run.folder.rglob("*"))
    part = run.checkpoints / "last.ckpt.part"
    part.touch()
    assert main(["train", "folder", f"resume={run.folder}"]) == 2
    assert "where another training is running" in capsys.readouterr().err
    assert main(["train", "folder", *settings, f"run_dir={run.folder}"]) == 2
    assert "where another training is running" in capsys.readouterr().err
    assert part.is_file()
    process.kill()
    process.wait()
    assert lock_path(run.folder).is_file()  # what a killed process leaves means nothing
    assert main(["train", "folder", f"resume={run.folder}"]) == 0
    assert sorted(path.name for path in run.folder.parent.iterdir()) == ["run"]
    assert set(before) <= {*run.folder.rglob("*"), run.previous}


def test_auto_passes_over_a_run_that_is_trained(
    at_work: tuple[Run, subprocess.Popen[str]], half: Path, settings: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, process = at_work
    monkeypatch.chdir(tmp_path)
    assert not choose_run("folder", settings, "auto")[2]
    assert "runs/run is unfinished, but another training is running in it" in capsys.readouterr().out
    shutil.copytree(half, tmp_path / "runs" / "older")
    os.utime(run.recipe, (5e9, 5e9))
    assert choose_run("folder", settings, "auto")[1].folder == Path("runs/older")
    process.kill()
    process.wait()
    assert choose_run("folder", settings, "auto")[1].folder == Path("runs/run")


def test_the_processes_of_one_launch_choose_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with run_lock(tmp_path / "run"):
        asked = """
import sys
from pathlib import Path
from effnet_ft.runs.run_lock import is_locked
print([is_locked(Path(sys.argv[1]), main) for main in (True, False)])
"""
        command = [sys.executable, "-c", asked, str(tmp_path / "run")]
        told = [
            subprocess.run(command, cwd=ROOT, env={**os.environ, "SLURM_JOB_ID": job}, capture_output=True, text=True)
            for job in ("7", "8")
        ]
    assert [done.stdout.strip() for done in told] == ["[True, False]", "[True, True]"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_the_first_process_alone_speaks(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("0", "1"):
        monkeypatch.setenv(variable, number)
        print_once(f"process {number}")
    assert capsys.readouterr().out == "process 0\n"


def test_auto_takes_the_newest_unfinished_run_of_the_recipe(
    half: Path, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not choose_run("folder", settings, "auto")[2]
    assert "starting a new one" in capsys.readouterr().out
    for number, name in enumerate(("older", "newer", "finished", "other"), start=1):
        shutil.copytree(half, tmp_path / "runs" / name)
        os.utime(tmp_path / "runs" / name / "recipe.yaml", (4e9 + number, 4e9 + number))
    for name in ("report.html", "metrics.json"):
        (tmp_path / "runs" / "finished" / name).write_text("")
    text = (tmp_path / "runs" / "other" / "recipe.yaml").read_text()
    (tmp_path / "runs" / "other" / "recipe.yaml").write_text(text.replace("seed: 0", "seed: 5"))
    os.utime(tmp_path / "runs" / "other" / "recipe.yaml", (5e9, 5e9))
    _, run, resumed = choose_run("folder", settings, "auto")
    assert resumed and run.folder == Path("runs/newer")
    assert "runs/other is unfinished, but its settings differ:\n  seed: 5 in the run, 0 now" in capsys.readouterr().out
    assert not choose_run("folder", [*settings, "run_dir=runs/new"], "auto")[2]


MEMORY = 10**12


def never() -> Any:
    raise AssertionError("there is a plan")


def test_a_resumed_run_reads_its_plan(half: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(half, tmp_path / "run"))
    state, recipe = load_resume_state(run), load_recipe(run.recipe)
    assert state is not None
    assert resumed_plan(run, recipe, state, MEMORY, never) == read_plan(run.plan)
    plan = read_plan(run.plan)
    decided = replace(plan.phases[2], source=BatchSource("files"), optim=replace(plan.phases[2].optim, lr=0.5))
    plan.with_phase(decided, "decided on the way").save(run.plan)
    found = resumed_plan(run, recipe, state, MEMORY, never)
    assert found == read_plan(run.plan) and found.phases[2] == decided
    faster = resumed_plan(run, load_recipe(run.recipe, ["data.workers=3"]), state, MEMORY, never)
    assert (faster.data.workers, faster.revision) == (3, found.revision + 1)


def test_a_damaged_plan_is_not_guessed(half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(shutil.copytree(half, tmp_path / "run"))
    cut_short(run.plan)
    assert main(["train", "folder", f"resume={run.folder}"]) == 2
    assert f"{run.plan} cannot be read" in capsys.readouterr().err


def test_a_run_of_version_0_1_has_its_decisions_in_other_files(half: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(half, tmp_path / "run"))
    state, recipe, plan = load_resume_state(run), load_recipe(run.recipe), read_plan(run.plan)
    assert state is not None
    run.plan.unlink()
    rates = {"2": {"lr": 0.25, "weight_decay": 1e-6}}
    (run.folder / "learning_rates.json").write_text(json.dumps(rates))
    state = replace(state, notes={"dtype": "float32", "stored": {0: False, 1: True}, "kept": [7]})
    found = resumed_plan(run, recipe, state, MEMORY, lambda: plan)
    assert (found.phases[1].optim.lr, found.phases[1].optim.weight_decay) == (0.25, 1e-6)
    assert [phase.source.kind for phase in found.phases] == ["files", "stored", plan.phases[2].source.kind]
    assert found.store.dtype == "float32" and found.phases[0].optim == plan.phases[0].optim


def test_all_processes_go_on_where_the_first_one_does(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has replaced a damaged file before the others look: they see a whole one, and would think it the best."""
    run = Run(shutil.copytree(half, tmp_path / "run"))
    seen: list[ResumeState | None] = []

    def broadcast(value: Any) -> Any:
        return replace(value, best=float("-inf")) if isinstance(value, ResumeState) else value

    def fit_phases(_: PhaseTrainer, left: ResumeState | None) -> None:
        seen.append(left)
        raise Killed

    monkeypatch.setattr(collectives, "broadcast", broadcast)
    monkeypatch.setattr(PhaseTrainer, "fit", fit_phases)
    with pytest.raises(Killed):
        main(["train", "folder", f"resume={run.folder}"])
    assert [left and left.best for left in seen] == [float("-inf")]
