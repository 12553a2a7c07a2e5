"""Imports the libraries and tries the devices: a script, as a broken library may crash or hang the process.

It imports nothing of this package. Before each step it prints what it has found so far as a line of JSON.
"""

import importlib
import json
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

LIBRARIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("numpy", "PIL.Image", "omegaconf", "filelock", "safetensors", "tqdm", "torch"), ()),
    "scipy": ("numpy",),
    "cv2": ("numpy",),
    "albumentations": ("numpy", "scipy", "cv2"),
    "torchvision": ("torch",),
    "torchmetrics": ("torch",),
    "pytorch_lightning": ("torch", "torchmetrics"),
}
"""What every training imports, and after which others: where those fail, it is not tried."""

FOUND: dict[str, Any] = {"at": "", "faults": {}, "failed": {}, "gpus": []}
"""The fields of :class:`effnet_ft.doctor.facts.Libraries`; ``at`` is the step that runs, at last ``done``."""


def attempt(at: str, step: Callable[[], object]) -> str:
    """Run a step and return its error in one line; empty if there was none."""
    FOUND["at"] = at
    print(json.dumps(FOUND), flush=True)
    try:
        step()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}".removesuffix(": ")
    return ""


def _try_gpus() -> None:
    import torch

    FOUND["hidden"] = os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1")
    FOUND["cuda"] = torch.version.cuda or ""
    with warnings.catch_warnings(record=True, action="always") as caught:
        available = torch.cuda.is_available()
    if caught and not available:
        FOUND["gpu_fault"] = " ".join(str(caught[-1].message).split())[:500]
    for index in range(torch.cuda.device_count() if available else 0):
        gpu = {"name": f"GPU {index}", "memory": "", "capability": ""}
        gpu["fault"] = attempt(f"using GPU {index}", partial(_try_gpu, index, gpu))
        FOUND["gpus"].append(gpu)


def _try_gpu(index: int, facts: dict[str, str]) -> None:
    import torch

    about = torch.cuda.get_device_properties(index)
    facts |= {"name": about.name, "capability": f"{about.major}.{about.minor}"}
    free, total = torch.cuda.mem_get_info(index)
    facts["memory"] = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    square = torch.ones(64, 64, device=f"cuda:{index}")
    if (square @ square).sum().item() != 64**3:
        raise ArithmeticError("it computes wrong numbers")


def _join_gloo() -> None:
    import torch
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    distributed.all_reduce(torch.ones(1))
    distributed.destroy_process_group()


def _collect_environment() -> None:
    """Collect what PyTorch asks for in its issues, and from it what the NVIDIA driver lists."""
    from torch.utils.collect_env import get_env_info, pretty_str

    found = get_env_info()  # type: ignore[no-untyped-call]
    if found.nvidia_gpu_models:
        FOUND["driver"] = f"{' '.join(found.nvidia_gpu_models.split())}, driver {found.nvidia_driver_version}"
    FOUND["collect_env"] = pretty_str(found)  # type: ignore[no-untyped-call]


def main() -> None:
    """Take every step."""
    faults, failed = FOUND["faults"], FOUND["failed"]
    for name, needed in LIBRARIES.items():
        if not faults.keys() & needed and (
            error := attempt(f"importing {name}", partial(importlib.import_module, name))
        ):
            faults[name] = error
    if "torch" not in faults:
        for at, step in (("looking for GPUs", _try_gpus), ("running torch.utils.collect_env", _collect_environment)):
            if error := attempt(at, step):
                failed[at] = error
        FOUND["gloo"] = attempt("joining a gloo group of one process", _join_gloo)
    attempt("done", lambda: None)


if __name__ == "__main__":
    main()
