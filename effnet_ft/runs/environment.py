"""What a training runs on: versions and hardware, noted in its run folder at every start."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from effnet_ft import __version__
from effnet_ft.utils.atomic_files import atomic_write_text

PACKAGES = ("torchvision", "pytorch-lightning", "torchmetrics", "albumentations", "numpy", "pillow")
"""Whose versions are noted beside torch's: those that results may depend on."""


def collect_environment() -> dict[str, Any]:
    """Return the time in UTC, the versions, and the machine: ``memory`` in bytes, ``accelerators`` by their names."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "effnet_ft": __version__,
            "python": platform.python_version(),
            **_versions(),
            "torch": str(torch.__version__),
        },
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory": _memory(),
            "accelerators": devices,
        },
    }


def record_start(path: Path) -> None:
    """Add a start to the list in ``path``, a JSON file; one that cannot be read is begun anew."""
    try:
        starts = list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        starts = []
    atomic_write_text(path, json.dumps([*starts, collect_environment()], indent=2) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a library that was built in place has no record of itself
            continue
    return found


def _processor() -> str:
    """Return the processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _memory() -> int | None:
    """Return the machine's memory in bytes, None where it is not told."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not of this system
        return None
