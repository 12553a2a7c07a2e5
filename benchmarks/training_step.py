"""Images a second and memory of full training steps: this project's step beside timm's, same arithmetic, random images.

    python benchmarks/training_step.py                      # B0 on the CPU, float32
    python benchmarks/training_step.py --gpu                # B0 and B4 on a GPU, bfloat16

timm as its users run it: its model, AdamW, a plain loop; on a GPU with autocast and channels-last, as its train
script's ``--amp --channels-last``. Ours: the LightningModule's own step under Lightning's Trainer. Both sides in one
process, in turn; medians of rounds.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from statistics import median

import timm
import torch
import torch.nn.functional as F
from common import Table, machine
from torch import Tensor

from effnet_ft.models.creation import create_model
from effnet_ft.process import tune_process
from effnet_ft.training.console import quiet_lightning
from effnet_ft.training.module import FineTuner

CLASSES = 100


def batches(count: int, batch: int, size: int, device: str) -> list[tuple[Tensor, Tensor]]:
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2).to(device)
    return [(images, torch.randint(0, CLASSES, (batch,), device=device))] * count


def of_timm(
    variant: str, device: str, compiled: bool, channels_last: bool
) -> Callable[[list[tuple[Tensor, Tensor]]], None]:
    model = timm.create_model(f"tf_efficientnet_{variant}", num_classes=CLASSES, drop_path_rate=0.2).to(device).train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    run = torch.compile(model) if compiled else model
    mean = torch.full((1, 3, 1, 1), 127.5, device=device)

    def steps(data: list[tuple[Tensor, Tensor]]) -> None:
        for images, labels in data:
            x = images.float().sub_(mean).div_(mean)  # as timm's prefetching loader does
            if channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = F.cross_entropy(run(x), labels, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return steps


def of_ours(variant: str, device: str, compiled: bool) -> Callable[[list[tuple[Tensor, Tensor]]], None]:
    import pytorch_lightning as pl

    model = create_model(variant, "none", num_classes=CLASSES)
    model.freeze(0)
    module = FineTuner(model, lr=1e-4, label_smoothing=0.1, compiled=compiled)
    precision = "bf16-mixed" if device == "cuda" else "32-true"

    def steps(data: list[tuple[Tensor, Tensor]]) -> None:
        with quiet_lightning():
            trainer = pl.Trainer(
                accelerator="gpu" if device == "cuda" else "cpu",
                devices=1,
                precision=precision,
                max_epochs=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))

    return steps


def timed(
    steps: Callable[[list[tuple[Tensor, Tensor]]], None], data: list[tuple[Tensor, Tensor]], device: str
) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    steps(data)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(
    sides: dict[str, Callable[[list[tuple[Tensor, Tensor]]], None]],
    count: int,
    batch: int,
    size: int,
    device: str,
    rounds: int,
) -> Iterator[tuple[str, float, float]]:
    """Yield name, images a second and peak GPU memory, a short fit taken from a long one: its start is no step."""
    long, short = batches(2 * count, batch, size, device), batches(count, batch, size, device)
    for steps in sides.values():
        steps(short)
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    memory = dict.fromkeys(sides, 0.0)
    for _ in range(rounds):
        for name, steps in sides.items():
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = timed(steps, long, device) - timed(steps, short, device)
            speeds[name].append(count * batch / seconds)
            if device == "cuda":
                memory[name] = torch.cuda.max_memory_allocated() / 2**30
    for name in sides:
        yield name, median(speeds[name]), memory[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--compile", action="store_true", help="both sides compiled as well")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tune_process()
    device = "cuda" if options.gpu else "cpu"
    cases = [("b0", 256, 224, 40), ("b4", 96, 380, 20)] if options.gpu else [("b0", 16, 224, 6)]
    title = "Full training steps on a GPU, bfloat16" if options.gpu else "Full training steps on the CPU, float32"
    table = Table(title, machine(), ["variant, batch, px", "", "images/s", "ratio", "peak GiB"])
    for variant, batch, size, count in cases:
        sides = {"timm": of_timm(variant, device, False, options.gpu), "effnet_ft": of_ours(variant, device, False)}
        if options.compile:
            sides["timm, compiled"] = of_timm(variant, device, True, options.gpu)
            sides["effnet_ft, compiled"] = of_ours(variant, device, True)
        base = 0.0
        for name, speed, memory in measure(sides, count, batch, size, device, options.rounds):
            base = base or speed
            table.row(
                f"{variant}, {batch}, {size}",
                name,
                f"{speed:.1f}",
                f"{speed / base:.2f}",
                f"{memory:.1f}" if memory else "",
            )
        sides.clear()
        gc.collect()
    table.finish(f"training_step_{device}")


if __name__ == "__main__":
    main()
