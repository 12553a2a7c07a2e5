"""The versions and hardware that a training runs on, recorded in its run folder at every start."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from effnet_ft import __version__
from effnet_ft.utils.atomic_files import atomic_write_text
from effnet_ft.utils.machine_resources import memory_total, processor_name, usable_cores

PACKAGES = ("torchvision", "pytorch-lightning", "torchmetrics", "albumentations", "numpy", "pillow")
"""Packages besides torch whose versions are recorded, because results may depend on them."""


def collect_environment() -> dict[str, Any]:
    """Return the time in UTC, the versions and the machine; ``memory`` in bytes, container limits included."""
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
            "processor": processor_name(),
            "cores": usable_cores(),
            "memory": _memory(),
            "accelerators": devices,
        },
    }


def record_start(path: Path) -> None:
    """Append this start to the list in ``path``, a JSON file; a file that cannot be read is replaced."""
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


def _memory() -> int | None:
    try:
        return memory_total()
    except (AttributeError, OSError, ValueError):  # this system does not tell
        return None
