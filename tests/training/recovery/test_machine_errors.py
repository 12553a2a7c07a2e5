"""What the machine does to a training is told in one message, and nothing is left half."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY
from torch.utils.data import get_worker_info

from effnet_ft.cli import main
from effnet_ft.commands.arguments import own_command
from effnet_ft.data.datamodule import ImageDataset
from effnet_ft.errors import DataError, MachineError
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.callbacks.epoch_table import EpochTable
from effnet_ft.training.console import _LogFile
from effnet_ft.training.recovery.machine_errors import explain_machine_error, translate_machine_errors
from effnet_ft.utils import atomic_files

STORED = "phases=[{train: head, epochs: 3, lr: 1e-2}]"
READ = ("phases=[{train: all, epochs: 3, lr: 1e-3}]", "data.decoded=off")

FAULTS: dict[str, tuple[BaseException, str]] = {
    "disk full": (OSError(errno.ENOSPC, "No space left on device", "run/last.ckpt"), r"'run/last\.ckpt' .*make room"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "run/x"), "make room"),
    "read only": (OSError(errno.EROFS, "Read-only file system", "run/x"), "can be written to"),
    "no right": (PermissionError(errno.EACCES, "Permission denied", "run/x"), "can be written to"),
    "disk broken": (OSError(errno.EIO, "Input/output error", "run/x"), r"'run/x' \(Input/output error\)"),
    "folder gone": (FileNotFoundError(errno.ENOENT, "No such file or directory", "run/x"), "that is there"),
    "torch on a full disk": (
        RuntimeError("[enforce fail at inline_container.cc:659] . PytorchStreamWriter failed writing file data/3"),
        "the disk is full",
    ),
    "worker killed": (
        RuntimeError("DataLoader worker (pid 4) is killed by signal: Killed. "),
        r"a data loading process was killed.*data\.workers",
    ),
    "worker gone": (RuntimeError("DataLoader worker (pid(s) 4, 5) exited unexpectedly"), r"data\.workers"),
    "bus error": (
        RuntimeError("DataLoader worker (pid 4) is killed by signal: Bus error. It is"),
        r"\(/dev/shm\) is full",
    ),
    "shared memory": (
        RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)"),
        r"\(/dev/shm\) is full",
    ),
    "memory": (MemoryError(), "out of memory"),
    "torch's memory": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "out of memory"),
    "GPU's memory": (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "out of GPU memory"),
    "GPU's libraries' memory": (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of GPU memory"),
    "driver's memory": (RuntimeError("CUDA error: out of memory\nCUDA kernel errors"), "out of GPU memory"),
    "a process that hangs": (
        RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800000ms for recv operation"),
        r"did not answer in time: .*trainer\.timeout_minutes",
    ),
    "one that never comes": (
        torch.distributed.DistNetworkError("The client socket has timed out after 6000ms while trying to connect"),
        r"did not answer in time: ",
    ),
    "others that never come": (
        RuntimeError("Timed out after 7 seconds waiting for clients. 1/2 clients joined."),
        r"did not answer in time: ",
    ),
    "open files": (RuntimeError("Too many open files. Communication with the workers"), "ulimit -n"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_machine_says_what_to_do(fault: str) -> None:
    error, told = FAULTS[fault]
    with pytest.raises(MachineError, match=told), translate_machine_errors():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        RuntimeError("out of resource: shared memory, Required: 114688, Hardware limit: 101376"),
        BrokenPipeError(errno.EPIPE, os.strerror(32)),
    ],
)
def test_faults_of_our_own_stay_what_they_are(error: BaseException) -> None:
    assert explain_machine_error(error) is None
    with pytest.raises(type(error)), translate_machine_errors():
        raise error


def test_a_reading_process_hands_on_its_message_without_its_traceback() -> None:
    words = (
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "images.py", line 1, in _read\n'
        "effnet_ft.errors.DataError: cannot read the image a/1.jpg: image file is truncated\n"
    )
    with pytest.raises(DataError) as told, translate_machine_errors():
        raise DataError(words)
    assert str(told.value) == "cannot read the image a/1.jpg: image file is truncated"


# Whole trainings


Fails = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def fails(run: Run, flowers: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Train; it must end with exit code 2 and one message, and leave no file half."""

    def train(*settings: str) -> str:
        assert main(["train", "folder", f"data.root={flowers}", f"run_dir={run.folder}", STORED, *TINY, *settings]) == 2
        assert not list(run.folder.rglob("*.part"))
        told = capsys.readouterr().err
        assert told.startswith("effnet-ft: ") and "Traceback" not in told
        return told

    return train


def goes_on(run: Run, told: str, *settings: str) -> None:
    """Check that the command which the message names ends the training."""
    assert f"Then resume with: {own_command()} train folder resume={run.folder}\n" in told
    assert main(["train", "folder", f"resume={run.folder}", *settings]) == 0
    assert run.metrics.is_file() and len(run.table.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("name", "time"), [("last.ckpt", 1), ("last.ckpt", 3), ("best.ckpt", 1), ("metrics.csv", 2), ("predictions.csv", 1)]
)
def test_a_full_disk(name: str, time: int, run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    install, times = atomic_files.atomic_replace, []

    def full(part: Path, path: Path) -> None:
        times.append(path.name)
        if times.count(name) == time:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))
        install(part, path)

    with monkeypatch.context() as patch:
        for module in ("effnet_ft.utils.atomic_files", "effnet_ft.training.callbacks.checkpoint"):
            patch.setattr(f"{module}.atomic_replace", full)
        told = fails()
    assert f"{name}.part' (No space left on device): make room" in told
    goes_on(run, told)


def test_a_log_that_cannot_be_written(run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, record: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run.log))
        except OSError:
            self.handleError(record)

    with monkeypatch.context() as patch:
        patch.setattr(_LogFile, "emit", full)
        told = fails()
    assert "log.txt' (No space left on device): make room" in told
    goes_on(run, told)


def test_a_run_folder_that_is_read_only(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(part: Path, path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(part))

    monkeypatch.setattr(atomic_files, "atomic_replace", refuse)
    assert "recipe.yaml.part' (Read-only file system): give a folder that is there" in fails()


@pytest.mark.parametrize(("damage", "workers"), [("gone", 0), ("cut", 1)])
def test_an_image_that_is_lost_while_training(
    damage: str, workers: int, run: Run, flowers: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, row = tmp_path / "images", EpochTable.on_train_epoch_end
    shutil.copytree(flowers, images)

    def lose(self: EpochTable, *arguments: Any) -> None:
        row(self, *arguments)
        for name in ("daisy", "tulip") if len(self.rows) == 2 else ():
            for file in (images / name).iterdir():
                file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:500])

    with monkeypatch.context() as patch:
        patch.setattr(EpochTable, "on_train_epoch_end", lose)
        told = fails(f"data.root={images}", *READ, f"data.workers={workers}")
    assert f"cannot read the image {images}/" in told and told.count("\n") == 2
    shutil.copytree(flowers, images, dirs_exist_ok=True)
    goes_on(run, told)


def test_shared_memory_that_is_full_does_not_hang(run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    share, times = torch.UntypedStorage._share_fd_cpu_, []

    def full(self: torch.UntypedStorage) -> Any:
        if get_worker_info() and not self.is_shared():
            times.append(self.nbytes())
        if len(times) > 7:  # in the second epoch
            raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: No space left (28)")
        return share(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
        told = fails(*READ, "data.workers=1")
    assert "(/dev/shm) is full: set data.workers=0" in told
    goes_on(run, told, "data.workers=0")


def test_a_reading_process_that_is_killed(run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    get = ImageDataset.__getitem__

    def die(self: ImageDataset, item: int) -> Any:
        if get_worker_info() and item // len(self) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return get(self, item)

    with monkeypatch.context() as patch:
        patch.setattr(ImageDataset, "__getitem__", die)
        told = fails(*READ, "data.workers=1")
    assert "a data loading process was killed" in told
    goes_on(run, told)
