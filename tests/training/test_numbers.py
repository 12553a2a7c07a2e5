"""The rates and averages of a whole training, step by step, against formulas that are written down here once more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY
from torch.optim.optimizer import register_optimizer_step_post_hook

from effnet_ft.cli import main
from effnet_ft.runs.run_folder import Run, load_model

# Of 24 images: five batches an epoch make three steps; then three batches are three steps.
PHASES = (
    "phases=[{train: head, epochs: 3, lr: 1e-2, batch_size: 5, accumulate: 2, warmup_epochs: 0.5},"
    " {train: stage8, epochs: 3, lr: 1e-3, batch_size: 8, schedule: step, step_epochs: 0.7, step_factor: 0.5,"
    " warmup_epochs: 1, layer_decay: 0.25, ema: 0.5}]"
)


@dataclass
class Steps:
    run: Run
    rates: list[list[float]] = field(default_factory=list)
    """Of each step, the rates of the parameter groups."""
    heads: list[torch.Tensor] = field(default_factory=list)
    """After each step, the head's weights."""

    def take(self, optimiser: torch.optim.Optimizer, *_: Any) -> None:
        self.rates.append([group["lr"] for group in optimiser.param_groups])
        self.heads += [
            value.detach().clone() for group in optimiser.param_groups for value in group["params"] if value.ndim == 2
        ]


@pytest.fixture(scope="module")
def steps(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    steps = Steps(Run(tmp_path_factory.mktemp("numbers") / "run"))
    hook = register_optimizer_step_post_hook(steps.take)
    try:
        command = ["train", "folder", f"data.root={flowers}", f"run_dir={steps.run.folder}", PHASES]
        assert main([*command, *TINY]) == 0
    finally:
        hook.remove()
    return steps


def test_every_step_takes_its_rate(steps: Steps) -> None:
    rise, total = 1.5, 9
    warm = [1e-2 * min(1, (step + 1) / rise) for step in range(2)]
    cosine = [1e-2 * (1 + math.cos(math.pi * (step - rise) / (total - rise))) / 2 for step in range(2, total)]
    head = [*warm, *cosine]
    stages = [1e-3 * (step + 1) / 3 for step in range(3)] + [1e-3 * 0.5 ** int(step / 2.1) for step in range(3, 9)]
    assert [max(rates) for rates in steps.rates] == pytest.approx([*head, *stages])
    assert [min(rates) for rates in steps.rates] == pytest.approx([*head, *(rate / 4 for rate in stages)])


def test_the_average_is_that_of_its_own_phases_steps(steps: Steps) -> None:
    heads = [head.double().numpy() for head in steps.heads]
    average = heads[9]
    for number, head in enumerate(heads[10:], 1):
        decay = min(0.5, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * head
    found = load_model(steps.run.last).state_dict()["head.1.weight"].numpy()
    np.testing.assert_allclose(found, average, rtol=1e-4, atol=1e-7)
    assert not np.allclose(found, heads[-1], rtol=1e-4, atol=1e-7), "the average is the last step's"
