"""Images a second and memory of full training steps: this project's step beside timm's, same arithmetic, random images.

    python benchmarks/training_step.py                      # B0 on the CPU, float32
    python benchmarks/training_step.py --gpu --compile      # B0 and B4 on a GPU, bfloat16, and both sides compiled

timm as its users run it: its model, AdamW, a plain loop; on a GPU with autocast and channels-last, as its train
script's ``--amp --channels-last``. Ours: the LightningModule's own step under Lightning's Trainer, with the command
line's settings of the process. Each side in a process of its own, in turn; medians of rounds, on the CPU of steps as
well; on a GPU a short fit is taken from a long one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch
import torch.nn.functional as F
from common import Table, bare_trainer, in_process, machine, peak_mib
from torch import Tensor

CLASSES, WARM_UP = 100, 3

Steps = Callable[[list[tuple[Tensor, Tensor]]], list[float]]
"""Trains on batches, and returns when each was done, seconds."""


def of_timm(variant: str, device: str, compiled: bool) -> Steps:
    import timm

    model = timm.create_model(f"tf_efficientnet_{variant}", num_classes=CLASSES, drop_path_rate=0.2).to(device).train()
    channels_last = device == "cuda"
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    run = torch.compile(model) if compiled else model
    mean = torch.full((1, 3, 1, 1), 127.5, device=device)

    def steps(data: list[tuple[Tensor, Tensor]]) -> list[float]:
        ends = []
        for images, labels in data:
            x = images.float().sub_(mean).div_(mean)  # as timm's prefetching loader does
            x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = F.cross_entropy(run(x), labels, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            ends.append(time.perf_counter())
        return ends

    return steps


def of_ours(variant: str, device: str, compiled: bool) -> Steps:
    import pytorch_lightning as pl

    from effnet_ft.models.creation import create_model
    from effnet_ft.optim.settings import Optimization
    from effnet_ft.training.console import quiet_lightning
    from effnet_ft.training.module import FineTuner
    from effnet_ft.utils.process_settings import tune_process

    tune_process()
    model = create_model(variant, "none", num_classes=CLASSES)
    model.freeze(0)
    module = FineTuner(model, Optimization(lr=1e-4, label_smoothing=0.1), compiled=compiled)

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_batch_end(self, *_: object) -> None:
            self.ends.append(time.perf_counter())

    def steps(data: list[tuple[Tensor, Tensor]]) -> list[float]:
        clock = Clock()
        with quiet_lightning():
            trainer = bare_trainer(device, "bf16-mixed" if device == "cuda" else "32-true", callbacks=[clock])
            trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))
        return clock.ends

    return steps


SIDES = {"timm": of_timm, "effnet_ft": of_ours}


def measure(steps: Steps, count: int, batch: int, size: int, device: str) -> dict[str, float]:
    """Return images a second and the highest memory, of the GPU where there is one."""
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2).to(device)
    labels = torch.randint(0, CLASSES, (batch,), device=device)

    if device == "cpu":
        ends = steps([(images, labels)] * (count + WARM_UP))[WARM_UP - 1 :]
        passed = count * median(later - earlier for earlier, later in pairwise(ends))
    else:  # steps are begun before the GPU has done the last ones: only their sum can be timed

        def seconds(number: int) -> float:
            start = time.perf_counter()
            steps([(images, labels)] * number)
            torch.cuda.synchronize()
            return time.perf_counter() - start

        seconds(WARM_UP)
        passed = seconds(2 * count) - seconds(count)
    memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak_mib()
    return {"speed": count * batch / passed, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--compile", action="store_true", help="both sides compiled as well")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = "cuda" if options.gpu else "cpu"
    if options.side:
        name, variant, batch, size, count, compiled = options.side
        steps = SIDES[name](variant, device, compiled == "1")
        print(json.dumps(measure(steps, int(count), int(batch), int(size), device)))
        return
    cases = [("b0", 256, 224, 40), ("b4", 96, 380, 20)] if options.gpu else [("b0", 16, 224, 20)]
    title = "Full training steps on a GPU, bfloat16" if options.gpu else "Full training steps on the CPU, float32"
    table = Table(title, machine(), ["variant, batch, px", "", "images/s", "ratio", "peak MiB"])
    for variant, batch, size, count in cases:
        base = 0.0
        for compiled in (0, 1) if options.compile else (0,):
            found: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
            for _ in range(options.rounds):
                for name, rounds in found.items():
                    extra = ["--gpu"] if options.gpu else []
                    rounds.append(in_process(*extra, "--side", name, variant, batch, size, count, compiled))
            for name, rounds in found.items():
                speed, memory = (median(one[key] for one in rounds) for key in ("speed", "memory"))
                base = base or speed
                what = f"{name}, compiled" if compiled else name
                table.row(f"{variant}, {batch}, {size}", what, f"{speed:.1f}", f"{speed / base:.2f}", f"{memory:.0f}")
    table.finish(f"training_step_{device}")


if __name__ == "__main__":
    main()
