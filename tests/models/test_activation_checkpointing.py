"""Activations computed again in the backward pass change nothing but the memory that a step takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import TINY
from torch import Tensor
from torchvision.models.efficientnet import MBConv

from effnet_ft.cli import main
from effnet_ft.models.classifier import Classifier
from effnet_ft.training.module import FineTuner


def step(model: Classifier, checkpointing: bool) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], int]:
    """Return loss, gradients, buffers of one step, and how often blocks were run."""
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    model.checkpointing = checkpointing
    hooks = [module.register_forward_pre_hook(count) for module in model.modules() if isinstance(module, MBConv)]
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(5)
    loss = F.cross_entropy(model(images), torch.arange(4) % 3)
    loss.backward()
    for hook in hooks:
        hook.remove()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    return loss.detach(), gradients, {name: value.clone() for name, value in model.named_buffers()}, runs


@pytest.mark.parametrize("batchnorm", ["train", "frozen"])
@pytest.mark.parametrize("cut", [0, 5])
@pytest.mark.parametrize("variant", ["lite0", "b0"])
def test_gradients_and_statistics_are_the_same(
    variant: str, cut: int, batchnorm: str, drawn: Callable[..., Classifier]
) -> None:
    steps = []
    for checkpointing in (False, True):
        model = drawn(variant, classes=3, dropout=0.5, drop_path=0.5)
        model.freeze(cut, batchnorm)
        before = {name: value.clone() for name, value in model.train().named_buffers()}
        steps.append(step(model, checkpointing))
    (loss, gradients, buffers, runs), (same_loss, same_gradients, same_buffers, more_runs) = steps
    blocks = [sum(isinstance(module, MBConv) for module in stage.modules()) for stage in model.stages]
    assert (runs, more_runs) == (sum(blocks), sum(blocks) + sum(blocks[cut:])), "it is computed twice"
    assert torch.equal(loss, same_loss)
    assert gradients.keys() == same_gradients.keys()
    assert [name for name in gradients if not torch.equal(gradients[name], same_gradients[name])] == []
    assert [name for name in buffers if not torch.equal(buffers[name], same_buffers[name])] == []
    assert any(not torch.equal(value, before[name]) for name, value in buffers.items()) == (batchnorm == "train")
    assert all(norm.momentum == 0.01 for norm in model.modules() if isinstance(norm, torch.nn.BatchNorm2d))


class SyncedNorm(torch.nn.SyncBatchNorm, torch.nn.BatchNorm2d):
    """A norm that several GPUs synchronise; a process alone takes its own batch, on any device."""


def test_norms_that_are_synchronised_keep_their_counts(drawn: Callable[..., Classifier]) -> None:
    model = drawn("lite0", classes=3).train()
    for module in model.modules():
        if type(module) is torch.nn.BatchNorm2d:
            module.__class__, module.process_group = SyncedNorm, None
    before = {name: value.clone() for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}
    _, gradients, buffers, _ = step(model, True)
    assert gradients
    assert {int(buffers[name] - count) for name, count in before.items()} == {1}, "the second time counts as a batch"


def test_without_gradients_nothing_is_kept_to_compute_again(drawn: Callable[..., Classifier]) -> None:
    model = drawn("lite0", classes=3)
    model.checkpointing = True
    runs = []
    model.stages[4][0].register_forward_pre_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert runs == [1]


def test_the_recipe_turns_it_on_for_a_run_and_off_for_a_phase(
    flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, train = [], FineTuner.training_step

    def recorded(self: FineTuner, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        seen.append((self.phase, self.model.checkpointing))
        return train(self, batch, index)

    monkeypatch.setattr(FineTuner, "training_step", recorded)
    phase = "epochs: 1, lr: 1e-3, batch_size: 24"
    phases = f"phases=[{{train: stage7, {phase}}}, {{train: head, {phase}, checkpointing: off}}]"
    settings = [f"data.root={flowers}", f"run_dir={tmp_path / 'run'}", phases, *TINY, "trainer.checkpointing=on"]
    assert main(["train", "folder", *settings]) == 0
    assert set(seen) == {(0, True), (1, False)}
