"""Loads the libraries and tries the devices, in a process of its own that may die of it.

A script by itself, which imports nothing of the project: each finding is a line of JSON on standard output, so that
what was found before a crash is known. :func:`effnet_ft.doctor.libraries.probe_libraries` runs it.
"""

from __future__ import annotations

import importlib
import json
import warnings
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


def tell(kind: str, value: Any) -> None:
    """Write one finding."""
    print(json.dumps({kind: value}), flush=True)


def sentence(error: BaseException) -> str:
    """Return an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__


def load_all() -> set[str]:
    """Import every library, tell of those that fail, and return those that did not."""
    loaded: set[str] = set()
    for name, needed in LIBRARIES.items():
        if not loaded.issuperset(needed):
            continue
        tell("at", f"importing {name}")
        try:
            importlib.import_module(name)
            if name == "torchvision":  # its compiled half is loaded late, and belongs to one version of torch
                _ = importlib.import_module("torch").ops.torchvision.nms
            loaded.add(name)
        except Exception as error:
            tell("fault", [name, sentence(error)])
    return loaded


def try_gpus() -> None:
    """Tell of every GPU, and whether it computes."""
    import torch

    tell("mps", torch.backends.mps.is_available())
    tell("cuda", torch.version.cuda or "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        if caught:
            tell("gpu_fault", " ".join(str(caught[-1].message).split())[:500])
        return
    for index in range(torch.cuda.device_count()):
        tell("at", f"using GPU {index}")
        try:
            tell("gpu", gpu(index))
        except Exception as error:
            tell("gpu", {"name": f"GPU {index}", "fault": sentence(error)})


def gpu(index: int) -> dict[str, Any]:
    """Return the facts of GPU ``index``, as :class:`effnet_ft.doctor.facts.Gpu` names them."""
    import torch

    about = torch.cuda.get_device_properties(index)
    facts: dict[str, Any] = {
        "name": about.name,
        "memory": about.total_memory,
        "capability": f"{about.major}.{about.minor}",
        "bf16": about.major >= 8,
        "tf32": about.major >= 8,
    }
    try:
        facts["free"] = torch.cuda.mem_get_info(index)[0]
        square = torch.ones(64, 64, device=f"cuda:{index}")
        if (square @ square).sum().item() != 64**3:
            facts["fault"] = "it computes wrong numbers"
    except Exception as error:
        facts["fault"] = sentence(error)
    return facts


def try_backends() -> None:
    """Tell which backends of torch.distributed work: gloo is tried, NCCL needs more than one GPU for that."""
    import torch
    from torch import distributed

    if not distributed.is_available():
        tell("backends", dict.fromkeys(("gloo", "nccl"), "torch is built without torch.distributed"))
        return
    nccl = "" if distributed.is_nccl_available() else "torch is built without it"
    if not torch.cuda.is_available():
        nccl = nccl or "there is no GPU that torch can use"
    tell("at", "joining a gloo group of one process")
    try:
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        distributed.all_reduce(torch.ones(1))
        distributed.destroy_process_group()
        gloo = ""
    except Exception as error:
        gloo = sentence(error)
    tell("backends", {"gloo": gloo, "nccl": nccl})


def main() -> None:
    """Tell everything."""
    loaded = load_all()
    if "torch" in loaded:
        tell("at", "looking for GPUs")
        try:
            try_gpus()
        except Exception as error:
            tell("gpu_fault", sentence(error))
        try_backends()
    tell("done", True)


if __name__ == "__main__":
    main()
