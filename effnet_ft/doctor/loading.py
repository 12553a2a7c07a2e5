"""Imports the libraries and tries the devices. A script, as a broken library may crash or hang the process.

It imports nothing of this package. Each finding is a line of JSON on standard output, so that those before a crash are
known. :func:`effnet_ft.doctor.libraries.probe_libraries` runs it.
"""

from __future__ import annotations

import importlib
import json
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

LIBRARIES = {
    "numpy": (),
    "PIL.Image": (),
    "omegaconf": (),
    "filelock": (),
    "safetensors": (),
    "tqdm": (),
    "scipy": ("numpy",),
    "cv2": ("numpy",),
    "albumentations": ("numpy", "scipy", "cv2"),
    "torch": (),
    "torchvision": ("torch",),
    "torchmetrics": ("torch",),
    "pytorch_lightning": ("torch", "torchmetrics"),
}
"""What every training imports, and after which others: where those fail, it is not tried."""


def report(kind: str, value: Any) -> None:
    """Write one finding."""
    print(json.dumps({kind: value}), flush=True)


def sentence(error: BaseException) -> str:
    """Return an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__


def attempt(what: str, step: Callable[[], None], kind: str = "failed", name: str = "") -> bool:
    """Call ``step``, report its error, and return whether there was none."""
    report("at", what)
    try:
        step()
    except Exception as error:
        report(kind, [name or what, sentence(error)])
        return False
    return True


def import_library(name: str) -> None:
    """Import a module, all of it."""
    importlib.import_module(name)
    if name == "torchvision":  # its compiled half is loaded late, and belongs to one version of torch
        _ = importlib.import_module("torch").ops.torchvision.nms


def try_gpus() -> None:
    """Report every GPU, and whether it computes."""
    import torch

    report("hidden", os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1"))
    report("cuda", torch.version.cuda or "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if caught and not available:
        report("gpu_fault", " ".join(str(caught[-1].message).split())[:500])
    for index in range(torch.cuda.device_count() if available else 0):
        report("at", f"using GPU {index}")
        report("gpu", gpu(index))


def gpu(index: int) -> dict[str, str]:
    """Return the facts of GPU ``index``, as :class:`effnet_ft.doctor.libraries.Libraries` names them."""
    import torch

    facts = {"name": f"GPU {index}", "memory": "", "capability": "", "fault": ""}
    try:
        about = torch.cuda.get_device_properties(index)
        facts |= {"name": about.name, "capability": f"{about.major}.{about.minor}"}
        free, total = torch.cuda.mem_get_info(index)
        facts["memory"] = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        square = torch.ones(64, 64, device=f"cuda:{index}")
        if (square @ square).sum().item() != 64**3:
            facts["fault"] = "it computes wrong numbers"
    except Exception as error:
        facts["fault"] = sentence(error)
    return facts


def try_gloo() -> None:
    """Report why torch.distributed does not work on the CPU."""
    try:
        import torch
        from torch import distributed

        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        distributed.all_reduce(torch.ones(1))
        distributed.destroy_process_group()
    except Exception as error:
        report("gloo", sentence(error))


def collect_environment() -> None:
    """Report what PyTorch asks for in its issues, and from it what the NVIDIA driver lists."""
    from torch.utils.collect_env import get_env_info, pretty_str

    found = get_env_info()  # type: ignore[no-untyped-call]
    if found.nvidia_gpu_models:
        report("driver", f"{' '.join(found.nvidia_gpu_models.split())}, driver {found.nvidia_driver_version}")
    report("collect_env", pretty_str(found))  # type: ignore[no-untyped-call]


def main() -> None:
    """Report everything."""
    loaded: set[str] = set()
    for name, needed in LIBRARIES.items():
        if loaded.issuperset(needed) and attempt(f"importing {name}", partial(import_library, name), "faults", name):
            loaded.add(name)
    if "torch" in loaded:
        attempt("looking for GPUs", try_gpus)
        attempt("joining a gloo group of one process", try_gloo)
        attempt("running torch.utils.collect_env", collect_environment)
    report("done", True)


if __name__ == "__main__":
    main()
