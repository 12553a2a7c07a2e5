"""Two processes with a thread each beside one process with two: images a second, and what the exchange takes of it.

    python benchmarks/two_processes.py

The same step on the same images of noise, under PyTorch's DistributedDataParallel over gloo: the one process takes the
batches of both. The share of communication is the time by which a step is shorter where the gradients stay at home
(``no_sync``); what DDP hides behind the backward pass is not in it. Medians of steps, then of rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import Table, machine
from torch.nn.parallel import DistributedDataParallel

from effnet_ft.models.creation import create_model
from effnet_ft.optim.optimizers import OPTIMIZERS, parameter_groups
from effnet_ft.utils.process_settings import tune_process

CLASSES, WARM_UP, SIZE = 100, 3, 224
CASES = {"all": 0, "stage7": 7}


def seconds_a_step(variant: str, cut: int, batch: int, steps: int, exchange: bool) -> float:
    """Return the median time of a training step of this process, seconds."""
    torch.manual_seed(0)
    model = create_model(variant, "none", num_classes=CLASSES).train()
    model.freeze(cut)
    network = DistributedDataParallel(model) if dist.is_initialized() else model
    optimiser = OPTIMIZERS["adamw"](parameter_groups(model, 1e-4), 1e-4, 0.9, True)
    images = torch.randint(0, 256, (batch, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.randint(0, CLASSES, (batch,))
    ends = []
    for _ in range(WARM_UP + steps):
        alone = network.no_sync() if dist.is_initialized() and not exchange else nullcontext()
        with alone:
            F.cross_entropy(network(images), labels, label_smoothing=0.1).backward()
        optimiser.step()
        optimiser.zero_grad()
        if dist.is_initialized() and not exchange:
            dist.barrier()  # both compute at the same time, as they do where they wait for each other's gradients
        ends.append(time.perf_counter())
    return median(later - earlier for earlier, later in pairwise(ends[WARM_UP - 1 :]))


def measure(processes: int, *arguments: object) -> float:
    """Return the seconds of a step of ``processes`` started together; the slowest's."""
    threads = str(2 // processes)
    with tempfile.TemporaryDirectory() as folder:
        started = [
            subprocess.Popen(
                [sys.executable, __file__, "--side", str(rank), str(processes), folder, *map(str, arguments)],
                env={**os.environ, "OMP_NUM_THREADS": threads},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(processes)
        ]
        told = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("a process failed")
    return max(json.loads(text.splitlines()[-1]) for text in told)


def side(rank: str, processes: str, folder: str, variant: str, cut: str, batch: str, steps: str, how: str) -> None:
    tune_process()
    torch.set_num_threads(2 // int(processes))
    if int(processes) > 1:
        meeting = f"file://{Path(folder) / 'meeting'}"
        dist.init_process_group("gloo", init_method=meeting, rank=int(rank), world_size=int(processes))
    print(json.dumps(seconds_a_step(variant, int(cut), int(batch), int(steps), how == "exchange")))
    if dist.is_initialized():
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="b0")
    parser.add_argument("--batch", type=int, default=8, help="images of a process, of two")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", nargs=8, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(*options.side)
        return
    columns = ["trained", "", "images/s", "ratio", "communication"]
    table = Table(f"Two processes beside one, {options.variant} at {SIZE} px on the CPU", machine(), columns)
    sides = {"one": (1, 2, "exchange"), "two": (2, 1, "exchange"), "apart": (2, 1, "apart")}
    for trained, cut in CASES.items():
        rounds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, (processes, share, how) in sides.items():
                batch = options.batch * share
                rounds[name].append(measure(processes, options.variant, cut, batch, options.steps, how))
        seconds = {name: median(values) for name, values in rounds.items()}
        images = 2 * options.batch
        ratio, share = seconds["one"] / seconds["two"], 1 - seconds["apart"] / seconds["two"]
        table.row(trained, "one process, 2 threads", f"{images / seconds['one']:.1f}", "1.00", "")
        table.row(trained, "2 processes, 1 thread", f"{images / seconds['two']:.1f}", f"{ratio:.2f}", f"{share:.0%}")
    table.finish("two_processes")


if __name__ == "__main__":
    main()
