"""What Lightning's loop and the metrics cost: the LightningModule's training beside the same step in a plain loop.

    python benchmarks/lightning_loop.py [--gpu]

B0 at 224 px, batch 16, random images, AdamW. Both in one process, a few steps in turn, so that the machine's moods meet
both alike; the median step of all rounds.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from statistics import median

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from common import Table, bare_trainer, machine

from effnet_ft.models.creation import create_model
from effnet_ft.optim.optimizers import OPTIMIZERS, parameter_groups
from effnet_ft.optim.settings import Optimization
from effnet_ft.training.console import quiet_lightning
from effnet_ft.training.module import FineTuner
from effnet_ft.utils.process_settings import tune_process

STEPS, WARM_UP, ROUNDS = 8, 2, 5


class Clock(pl.Callback):
    """Notes when each step is done."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        """Note the time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true")
    device = "cuda" if parser.parse_args().gpu else "cpu"
    tune_process()
    model = create_model("b0", "none", num_classes=100)
    model.freeze(0)
    module = FineTuner(model, Optimization(lr=1e-4, label_smoothing=0.1))
    images = torch.randint(0, 256, (16, 224, 224, 3), dtype=torch.uint8).permute(0, 3, 1, 2).to(device)
    batches = [(images, torch.randint(0, 100, (16,), device=device))] * (STEPS + WARM_UP)

    def lightning() -> list[float]:
        clock = Clock()
        with quiet_lightning():
            trainer = bare_trainer(device, "32-true", callbacks=[clock])
            trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
        return clock.ends

    def plain() -> list[float]:
        model.to(device).train()
        optimiser = OPTIMIZERS["adamw"](parameter_groups(model, 1e-4), 1e-4, 0.9, True)
        clock = Clock()
        for x, labels in batches:
            loss = F.cross_entropy(model(x), labels, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            clock.on_train_batch_end()
        return clock.ends

    sides = {"plain loop": plain, "Lightning": lightning}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            seconds[name] += [later - earlier for earlier, later in pairwise(side()[WARM_UP:])]
    table = Table("A training step in Lightning's loop, B0 at 224 px, batch 16", machine(), ["", "ms a step", "ratio"])
    base = median(seconds["plain loop"])
    for name, steps in seconds.items():
        table.row(name, f"{1e3 * median(steps):.0f}", f"{median(steps) / base:.3f}")
    table.finish(f"lightning_loop_{device}")


if __name__ == "__main__":
    main()
