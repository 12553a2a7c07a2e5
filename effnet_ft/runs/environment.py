"""Records the versions and the hardware of a training in its run folder, at every start."""

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
"""Packages besides torch whose versions may affect the results."""


def record_start(path: Path) -> None:
    """Append the time in UTC, versions and machine to the list in ``path``, JSON; an unreadable file is replaced."""
    try:
        starts = list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        starts = []
    atomic_write_text(path, json.dumps([*starts, _environment()], indent=2) + "\n")


def _environment() -> dict[str, Any]:
    import torch

    versions = {"effnet_ft": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # a library built in place
            continue
    try:
        memory = memory_total()  # bytes, container limits included
    except (AttributeError, OSError, ValueError):  # unknown on this system
        memory = None
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {**versions, "torch": str(torch.__version__)},
        "machine": {
            "system": platform.platform(),
            "processor": processor_name(),
            "cores": usable_cores(),
            "memory": memory,
            "accelerators": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
    }
