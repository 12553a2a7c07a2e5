"""Parameter groups and optimisers, against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effnet_ft.models.creation import create_model
from effnet_ft.models.heads import HEADS
from effnet_ft.optim.optimizers import OPTIMIZERS, decay_rate, parameter_groups


def test_rmsprop_takes_tensorflows_steps() -> None:
    """Against timm's port, through a change of the learning rate, with gradients of any size and with weight decay."""
    from timm.optim.rmsprop_tf import RMSpropTF

    torch.manual_seed(0)
    drawn = torch.randn(5, 4)
    ours, theirs = (nn.Parameter(drawn.clone()) for _ in range(2))
    optimisers = [
        OPTIMIZERS["rmsprop"]([{"params": [ours], "weight_decay": 1e-2}], 0.05, 0.9, False),
        RMSpropTF([theirs], lr=0.05, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=1e-2),
    ]
    for step in range(20):
        gradient = torch.randn(5, 4) * 10.0 ** torch.arange(-4, 1)[:, None]
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.param_groups[0]["lr"] = 0.05 * 0.8**step
            weight.grad = gradient.clone()
            optimiser.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_decay_by_step_takes_off_as_much_at_any_learning_rate() -> None:
    for lr in (1e-3, 0.1):
        assert decay_rate(1e-4, lr, "step") * lr == pytest.approx(1e-4)
        assert decay_rate(1e-4, lr, "rate") == 1e-4


@pytest.mark.parametrize("head", HEADS)
def test_norms_and_biases_do_not_decay_and_every_trained_parameter_is_in_one_group(head: str) -> None:
    model = create_model("lite0", None, num_classes=3, head=head)
    model.freeze(6)
    decayed, kept = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    exempt = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        for own, parameter in module.named_parameters(recurse=False)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm) or own in ("bias", "log_scale")
    }
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {names[id(parameter)] for parameter in kept["params"]} == exempt & trained
    assert {names[id(parameter)] for parameter in decayed["params"]} == trained - exempt


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_descends(name: str) -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimiser = OPTIMIZERS[name]([{"params": [weight]}], 0.05, 0.9, True)
    for _ in range(200):
        optimiser.zero_grad()
        (weight**2).sum().backward()
        optimiser.step()
    assert abs(float(weight.detach())) < 0.5
