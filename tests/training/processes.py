"""Trains by the command line, and leaves each process's weights after every phase in a folder.

``python processes.py FOLDER RECIPE key=value ...``; Lightning starts this same script for the other processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from effnet_ft.cli import main
from effnet_ft.distributed import collectives
from effnet_ft.planning import estimate
from effnet_ft.planning.speed import Speed
from effnet_ft.training import phase

folder, *arguments = sys.argv[1:]
share_statistics = phase.share_statistics


def share_and_keep(model: nn.Module) -> None:
    share_statistics(model)
    done = len(list(Path(folder).glob(f"*-{collectives.rank()}.pt")))
    torch.save(model.state_dict(), Path(folder) / f"phase{done + 1}-{collectives.rank()}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    phase.share_statistics = share_and_keep
    estimate.measured_speed = lambda *_: Speed(1e-3, 1e-3, 1e-3, 1e6)  # which takes its time
    sys.exit(main(["train", *arguments]))
