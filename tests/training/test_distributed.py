"""Several processes train what one would: the same weights, the same metrics, the same stored arrays."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plans import phase_of
from tiny import TINY
from torch import Tensor

from effnet_ft.data.demo_flowers import draw_flowers
from effnet_ft.data.sources.folder import scan_folder
from effnet_ft.data.splits.split import make_split
from effnet_ft.errors import DataError, WeightsError
from effnet_ft.models.classifier import Classifier
from effnet_ft.recipe.plan import read_plan
from effnet_ft.runs.run_folder import Run
from effnet_ft.training import consistency
from effnet_ft.training.phase import step_in_words
from effnet_ft.training.sync_batchnorm import SyncedBatchNorm2d, sync_batchnorm
from effnet_ft.utils.array_cache import FOLDER_VARIABLE

SCRIPT = Path(__file__).parent / "processes.py"
ROOT = Path(__file__).parent.parent.parent

# Momentum without Adam's division, which makes of a gradient's last bit a step of full length; what each process draws
# for itself (dropout, stochastic depth) is left out. The phases between them take every way to the images.
PHASES = """phases=[
  {train: head, epochs: 2, lr: auto, name: sgd, augment: basic, class_weights: balanced},
  {train: stage7, epochs: 2, lr: auto, name: sgd, batchnorm: frozen, sampling: balanced, ema: 0.9, accumulate: 2},
  {train: all, epochs: 2, lr: 1e-3, name: sgd, batchnorm: train, sync_batchnorm: on, augment: none, clip_norm: 1.0},
]"""
SETTINGS = (*TINY, "model.dropout=0", "model.drop_path=0", "data.val_fraction=0.25", "data.test_fraction=0.25")
IN_A_STEP = 10
IMAGES = {"daisy": 17, "lavender": 13, "tulip": 9}


class Training:
    """What a training left: its run, the weights of its processes after each phase, its stored arrays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = Run(folder / "run")
        (folder / "weights").mkdir(parents=True)

    def arguments(self, data: Path, processes: int) -> list[str]:
        own = (f"data.root={data}", f"run_dir={self.run.folder}", f"data.batch_size={IN_A_STEP // processes}")
        return [str(SCRIPT), str(self.folder / "weights"), "folder", PHASES, *SETTINGS, *own]

    def environment(self, node: int = 0) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), FOLDER_VARIABLE: str(self.folder / f"cache{node}")}

    def weights(self, phase: int, rank: int) -> dict[str, Tensor]:
        state: dict[str, Tensor] = torch.load(self.folder / "weights" / f"phase{phase}-{rank}.pt")
        return state

    def arrays(self, node: int = 0) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / f"cache{node}").glob("*.npy")}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def finish(*started: subprocess.Popen[str]) -> str:
    """Wait for all processes, and return what the first one printed."""
    told = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), told
    return told[0][0]


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An odd number of images in every part, and another of each class: nothing divides."""
    root = tmp_path_factory.mktemp("data") / "flowers"
    for name, count in IMAGES.items():
        draw_flowers(root.with_name(name), per_class=count, size=64, species=[name])
        shutil.copytree(root.with_name(name), root, dirs_exist_ok=True)
    return root


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("alone"))
    finish(start([*training.arguments(data, 1), "trainer.devices=1"], training.environment()))
    return training


def by_lightning(training: Training, arguments: list[str]) -> list[subprocess.Popen[str]]:
    return [start([*arguments, "trainer.devices=2"], training.environment())]


def by_torchrun(training: Training, arguments: list[str]) -> list[subprocess.Popen[str]]:
    """Two nodes that share no cache."""
    launch = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=static"]
    meeting = f"--rdzv-endpoint=127.0.0.1:{free_port()}"
    return [
        start([*launch, meeting, f"--node-rank={node}", *arguments], training.environment(node)) for node in range(2)
    ]


def by_slurm(training: Training, arguments: list[str]) -> list[subprocess.Popen[str]]:
    """Two tasks on one node, with the variables that srun sets."""
    common = {"SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_NNODES": "1"}
    common |= {"SLURM_NODELIST": "localhost", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    own = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
    return [start(arguments, {**training.environment(), **common, **task}) for task in own]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


LAUNCHERS = {"lightning": by_lightning, "torchrun": by_torchrun, "slurm": by_slurm}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("torchrun", "slurm")]


@pytest.fixture(scope="module", params=["lightning", *SLOW])
def pair(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """What two processes left."""
    training = Training(tmp_path_factory.mktemp("pair"))
    printed = finish(*LAUNCHERS[request.param](training, training.arguments(data, 2)))
    assert "21 training, 9 validation, 9 test images" in printed, "numbers that divide show nothing"
    assert printed.count("run folder:") == 1, "the processes speak with more than one voice"
    assert "5 images x 2 accumulated x 2 processes = 20 a step" in printed
    return training


def test_processes_train_what_one_does(alone: Training, pair: Training) -> None:
    for phase in (1, 2, 3):
        first, second, whole = pair.weights(phase, 0), pair.weights(phase, 1), alone.weights(phase, 0)
        assert [key for key in whole if not torch.equal(first[key], second[key])] == []
        for key in (key for key in whole if whole[key].is_floating_point()):
            torch.testing.assert_close(first[key], whole[key], rtol=1e-6, atol=1e-5, msg=f"phase {phase}: {key}")
    plans = [read_plan(training.run.plan) for training in (alone, pair)]
    rates = [[(phase.optim.lr, phase.optim.weight_decay) for phase in plan.phases] for plan in plans]
    assert rates[0] == rates[1]
    assert [[phase.source for phase in plan.phases] for plan in plans] == [
        [phase.source for phase in plans[0].phases]
    ] * 2
    assert [plan.revision for plan in plans] == [3, 3], "two rates are searched"


def test_the_run_folder_is_that_of_one(alone: Training, pair: Training) -> None:
    files = [{path.relative_to(one.run.folder) for path in one.run.folder.rglob("*")} for one in (alone, pair)]
    assert files[0] == files[1]


def test_metrics_are_those_of_the_whole_set(alone: Training, pair: Training) -> None:
    for one, two in zip(rows_of(alone.run.table), rows_of(pair.run.table), strict=True):
        for name in ("train/loss", "train/acc1", "val/loss", "val/acc1"):
            assert float(two[name]) == pytest.approx(float(one[name]), abs=2e-4), name
    measured = [json.loads(training.run.metrics.read_text()) for training in (alone, pair)]
    for name in ("val/acc1", "val/macro_f1", "val/ece", "test/acc1", "test/macro_f1", "test/ece"):
        assert measured[1][name] == pytest.approx(measured[0][name], abs=1e-4), name
    for one, two in zip(*(rows_of(training.run.predictions) for training in (alone, pair)), strict=True):
        assert [one[name] for name in ("path", "label", "prediction")] == [
            two[name] for name in ("path", "label", "prediction")
        ]
        assert float(one["probability"]) == pytest.approx(float(two["probability"]), abs=1e-4)


def test_arrays_filled_by_shares_are_those_of_one(alone: Training, pair: Training) -> None:
    expected = alone.arrays()
    assert len(expected) >= 8
    nodes = list(pair.folder.glob("cache*"))
    for node in range(len(nodes)):
        assert pair.arrays(node) == expected
        left = {path.suffix for path in (pair.folder / f"cache{node}").iterdir()}
        assert left <= {".npy", ".json", ".noted", ".lock"}


@pytest.mark.parametrize(
    ("phase", "processes", "words"),
    [
        ("lr: 1", 1, "32 images a step"),
        ("lr: 1, accumulate: 2", 1, "32 images x 2 accumulated = 64 a step"),
        ("lr: 1, batch_size: 8", 4, "8 images x 4 processes = 32 a step"),
        ("lr: 1, accumulate: 2", 4, "32 images x 2 accumulated x 4 processes = 256 a step"),
    ],
)
def test_the_log_tells_the_images_of_a_step(phase: str, processes: int, words: str) -> None:
    assert step_in_words(phase_of(f"train: head, epochs: 1, {phase}"), processes) == words


def test_other_weights_in_a_process_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)
    others: list[dict[str, int]] = []
    monkeypatch.setattr(consistency.collectives, "world_size", lambda: 2)
    monkeypatch.setattr(consistency.collectives, "all_gather", lambda own: [own, *others])
    others.append({name: consistency._checksum(value) for name, value in model.state_dict().items()})
    consistency.require_same_weights(model, "before phase 2")
    with torch.no_grad():
        model.bias[0] += 1e-6
    monkeypatch.setattr(consistency.collectives, "raise_on_all_ranks", lambda error: (_ for _ in ()).throw(error))
    with pytest.raises(WeightsError, match=r"before phase 2, process 1 .*, in 1 tensor:[^$]*bias"):
        consistency.require_same_weights(model, "before phase 2")


@pytest.mark.parametrize(
    ("count", "message"), [(2, "does not see the same images"), (7, "only .* images? for 7 processes")]
)
def test_other_or_too_few_images_in_a_process_are_refused(
    count: int, message: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split(scan_folder(data), val_fraction=0.2, test_fraction=0.15, seed=0)
    monkeypatch.setattr(consistency.collectives, "world_size", lambda: count)
    monkeypatch.setattr(consistency.collectives, "all_gather", lambda own: [own, (3, 0) if count == 2 else own])
    monkeypatch.setattr(consistency.collectives, "raise_on_all_ranks", lambda error: (_ for _ in ()).throw(error))
    with pytest.raises(DataError, match=message):
        consistency.require_same_images(split)


def test_only_norms_that_train_are_synchronised_and_all_are_given_back() -> None:
    model = Classifier("lite0", classes=("a", "b"))
    model.freeze(6)
    with sync_batchnorm(model, wanted=True, device=torch.device("cuda")):
        for number, stage in enumerate(model.stages):
            kinds = {type(module) for module in stage.modules() if isinstance(module, torch.nn.BatchNorm2d)}
            assert kinds == {SyncedBatchNorm2d if number >= 6 else torch.nn.BatchNorm2d}
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    with sync_batchnorm(model, wanted=True, device=torch.device("cpu")):  # DDP refuses torch's there
        assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    model.freeze(0, "frozen")
    with sync_batchnorm(model, wanted=True, device=torch.device("cpu")):
        assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
