"""The largest batch of B7 at 600 px that trains on this GPU, with and without activation checkpointing, bfloat16.

    python benchmarks/gpu_memory.py

Steps of AdamW on everything; batches grow by a quarter until the memory does not suffice. timm's model beside it, with
its own checkpointing (``set_grad_checkpointing``).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from common import Table, machine
from torch import nn

from effnet_ft.models.creation import create_model

VARIANT, SIZE, CLASSES = "b7", 600, 100


def ours(checkpointing: bool) -> nn.Module:
    model = create_model(VARIANT, "none", num_classes=CLASSES).cuda()
    model.freeze(0)
    model.checkpointing = checkpointing
    return model.train()


def of_timm(checkpointing: bool) -> nn.Module:
    model = timm.create_model(f"tf_efficientnet_{VARIANT}", num_classes=CLASSES, drop_path_rate=0.2).cuda()
    model.set_grad_checkpointing(checkpointing)
    return model.to(memory_format=torch.channels_last).train()


def steps(model: nn.Module, optimiser: torch.optim.Optimizer, batch: int, count: int) -> float:
    """Return images a second of ``count`` steps."""
    images = torch.randint(0, 256, (batch, SIZE, SIZE, 3), dtype=torch.uint8, device="cuda").permute(0, 3, 1, 2)
    labels = torch.randint(0, CLASSES, (batch,), device="cuda")
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(model(images.float() if not hasattr(model, "prefix") else images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.cuda.synchronize()
    return batch * count / (time.perf_counter() - start)


def largest(build: Callable[[bool], nn.Module], checkpointing: bool) -> tuple[int, float, float]:
    """Return the largest batch, its images a second and its peak memory, GiB."""
    model = build(checkpointing)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    best, batch = (0, 0.0, 0.0), 8
    while True:
        torch.cuda.reset_peak_memory_stats()
        try:
            steps(model, optimiser, batch, 1)
            speed = steps(model, optimiser, batch, 2)
        except torch.OutOfMemoryError:
            break
        best = (batch, speed, torch.cuda.max_memory_allocated() / 2**30)
        batch += max(4, batch // 4) // 4 * 4
    del model, optimiser
    gc.collect()
    torch.cuda.empty_cache()
    return best


def main() -> None:
    torch.backends.cudnn.benchmark = False
    title = f"Largest batch of {VARIANT.upper()} at {SIZE} px, training everything, bfloat16"
    table = Table(title, machine(), ["", "activation checkpointing", "largest batch", "images/s at it", "peak GiB"])
    for name, build in {"timm": of_timm, "effnet_ft": ours}.items():
        for checkpointing in (False, True):
            batch, speed, memory = largest(build, checkpointing)
            table.row(name, "on" if checkpointing else "off", batch, f"{speed:.1f}", f"{memory:.1f}")
    table.finish("gpu_memory")


if __name__ == "__main__":
    main()
