"""The facts about this machine that the advice needs, as plain values that go to JSON."""

from __future__ import annotations

import os
import platform
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effnet_ft import __version__
from effnet_ft.doctor.libraries import OPTIONAL, Libraries, probe_libraries, requirements, unmet_requirements, version
from effnet_ft.utils.machine_resources import container_cores, memory_left, memory_total, processor_name, usable_cores

COMPILERS = {"CXX": "g++", "CC": "gcc"}
"""What torch.compile calls, unless these environment variables name others: for the CPU, and to launch GPU kernels."""


@dataclass(frozen=True)
class Folder:
    """A folder that is written to: its path, the bytes free on its disk, and whether files can be created in it."""

    path: str
    free: int
    writable: bool


@dataclass(frozen=True)
class Facts:
    """All that is known; what could not be found out has its default, and the reason in ``unknown``.

    Attributes:
        versions: of Python, this project and its requirements, by name; empty for what is not installed.
        unmet: requirements that are missing or too old, e.g. ``torch>=2.11 (2.5 is installed)``.
        optional: versions of the packages that some keys and commands need; empty for what is not installed.
        libraries: the result of importing them.
        processor: its name.
        cores: that this process may run on.
        quota: a container's limit on processor time, in cores; None for none.
        memory: bytes that programs may use in all, container limits included; 0 where unknown.
        memory_left: bytes of it that are free.
        folders: where arrays and runs are written.
        shared: bytes free in ``/dev/shm``; None where there is none.
        compilers: the paths of what torch.compile needs; empty where it is missing.
        unknown: why a fact could not be found out, by its name.
    """

    versions: dict[str, str] = field(default_factory=dict)
    unmet: list[str] = field(default_factory=list)
    optional: dict[str, str] = field(default_factory=dict)
    libraries: Libraries = field(default_factory=Libraries)
    processor: str = ""
    cores: int = 1
    quota: float | None = None
    memory: int = 0
    memory_left: int = 0
    folders: dict[str, Folder] = field(default_factory=dict)
    shared: int | None = None
    compilers: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)


def gather() -> Facts:
    """Return all facts of this machine; takes as long as importing torch does."""
    found: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for name, probe in PROBES.items():
        try:
            found[name] = probe()
        except (Exception, SystemExit) as error:  # a broken library may raise anything when it is imported
            unknown[name] = f"{type(error).__name__}: {error}"
    return Facts(**found, unknown=unknown)


def folder(path: Path) -> Folder:
    """Return the facts of a folder, or of the nearest existing one above it."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return Folder(str(path), shutil.disk_usage(place).free, writable)


def _versions() -> dict[str, str]:
    required = {requirement.name: version(requirement.name) for requirement in requirements()}
    return {"effnet_ft": __version__, "python": platform.python_version(), **required}


def _folders() -> dict[str, Folder]:
    from effnet_ft.utils.array_cache import cache_folder

    return {"cache": folder(cache_folder()), "current": folder(Path.cwd())}


def _shared() -> int | None:
    place = Path("/dev/shm")
    return shutil.disk_usage(place).free if place.is_dir() else None


def _compilers() -> dict[str, str]:
    found = {name: shutil.which(os.environ.get(name) or default) or "" for name, default in COMPILERS.items()}
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return {**found, "Python.h": str(header) if header.is_file() else ""}


PROBES: dict[str, Callable[[], Any]] = {
    "versions": _versions,
    "unmet": unmet_requirements,
    "optional": lambda: {name: version(name) for name in OPTIONAL},
    "libraries": probe_libraries,
    "processor": processor_name,
    "cores": usable_cores,
    "quota": container_cores,
    "memory": memory_total,
    "memory_left": memory_left,
    "folders": _folders,
    "shared": _shared,
    "compilers": _compilers,
}
"""How each of :class:`Facts` is found out."""
