"""What the benchmarks share: the machine in words, and tables that are printed and kept for ``docs/benchmarks.md``."""

from __future__ import annotations

import datetime
import json
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from effnet_ft.utils.machine_resources import processor_name, usable_cores

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "albumentations", "timm")


def machine() -> str:
    """Return processor, device and versions."""
    import torch

    device = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return f"{device}{usable_cores()} cores of {processor_name()}, Python {platform.python_version()}, {packages}"


def in_process(*arguments: object) -> dict[str, float]:
    """Run this benchmark again in a process of its own, with ``arguments``; its last line is JSON.

    A side then has the process as its users have it: settings of the other's do not reach it.
    """
    command = [sys.executable, sys.argv[0], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_mib() -> float:
    """Return the highest resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare_trainer(device: str, precision: str, epochs: int = 1, **settings: Any) -> Any:
    """Return a Lightning Trainer that does nothing but train."""
    import pytorch_lightning as pl

    return pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=precision,
        max_epochs=epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


class Table:
    """A Markdown table that grows on the terminal and is kept in ``benchmarks/results/NAME.md``.

    Args:
        title: the heading.
        where: the machine.
        columns: the heads of the columns.
    """

    def __init__(self, title: str, where: str, columns: list[str]) -> None:
        command = " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
        today = datetime.date.today().isoformat()
        self.lines = [f"## {title}", "", f"`{command}`, {today}; {where}", ""]
        self.row(*columns)
        self.row(*["---"] * len(columns))

    def row(self, *cells: object) -> None:
        """Add a row and print it."""
        self.lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
        print(self.lines[-1], flush=True)

    def note(self, text: str) -> None:
        """Add a sentence below the table."""
        self.lines += ["", text]
        print(text, flush=True)

    def finish(self, name: str) -> None:
        """Write the table to its file."""
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text("\n".join(self.lines) + "\n", encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
