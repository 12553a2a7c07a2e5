"""Looks up every fact, each under guard: what fails is told as unknown, and the others are still found."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from effnet_ft import __version__
from effnet_ft.doctor.facts import Facts, Folder
from effnet_ft.doctor.libraries import OPTIONAL, SHOWN, probe_libraries, unmet_requirements, versions
from effnet_ft.utils.machine_resources import container_cores, memory_left, memory_total

VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "CXX", "CC", "SLURM_JOB_ID", "RANK", "WORLD_SIZE")
"""Those that change how a training runs; none holds a secret, for reports go to others."""

COMPILERS = {"C++": ("clang++" if sys.platform == "darwin" else "g++",), "C": ("gcc", "clang")}
"""What torch.compile calls: for the CPU's code, and for what starts the GPU's. CXX and CC name others."""


def gather() -> Facts:
    """Return all facts of this machine; takes as long as loading torch does."""
    found: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for name, probe in PROBES.items():
        try:
            found[name] = probe()
        except (Exception, SystemExit) as error:  # a broken library may raise anything when it is loaded
            unknown[name] = f"{type(error).__name__}: {error}"
    return Facts(**found, unknown=unknown)


def _versions() -> dict[str, str]:
    return {"effnet_ft": __version__, "python": platform.python_version(), **versions(SHOWN)}


def _system() -> str:
    processor = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{platform.platform()}, {processor}"


def _cpu_bf16() -> bool:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next(line.split() for line in lines if line.lower().startswith(("flags", "features")))
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _driver() -> list[str]:
    """Return what NVIDIA's tool says; nothing where it is not there."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, errors="replace", timeout=30)
    if done.returncode:
        raise OSError(f"nvidia-smi: {(done.stdout + done.stderr).strip()}")
    return [", driver ".join(line.split(", ")) for line in done.stdout.splitlines() if line.strip()]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _folders() -> dict[str, Folder]:
    from effnet_ft.utils.array_cache import cache_folder

    return {"cache": folder(cache_folder()), "current": folder(Path.cwd())}


def folder(path: Path) -> Folder:
    """Return the facts of a folder, or of the nearest one above it where it is not there yet."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return Folder(str(path), shutil.disk_usage(place).free, writable)


def _shared() -> int | None:
    place = Path("/dev/shm")
    return shutil.disk_usage(place).free if place.is_dir() else None


def _batch_bytes() -> int:
    from effnet_ft.models.variants import VARIANTS
    from effnet_ft.recipe import DEFAULT_BATCH, ModelSettings

    return 3 * DEFAULT_BATCH * VARIANTS[ModelSettings().variant].size ** 2


def _workers() -> int:
    from effnet_ft.recipe import default_workers

    return default_workers()


def _open_files() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _compilers() -> dict[str, str]:
    found = {kind: next(filter(None, map(shutil.which, names)), "") for kind, names in COMPILERS.items()}
    for kind, variable in (("C++", "CXX"), ("C", "CC")):
        if chosen := os.environ.get(variable):
            found[kind] = shutil.which(chosen) or ""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return {**found, "Python.h": str(header) if header.is_file() else ""}


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


PROBES: dict[str, Callable[[], Any]] = {
    "versions": _versions,
    "unmet": unmet_requirements,
    "optional": lambda: versions(OPTIONAL),
    "system": _system,
    "libraries": probe_libraries,
    "driver": _driver,
    "cpu_bf16": _cpu_bf16,
    "cores": _cores,
    "quota": container_cores,
    "memory": memory_total,
    "memory_left": memory_left,
    "folders": _folders,
    "shared": _shared,
    "batch_bytes": _batch_bytes,
    "workers": _workers,
    "open_files": _open_files,
    "compilers": _compilers,
    "environment": _environment,
}
"""How each of :class:`Facts` is found out."""
