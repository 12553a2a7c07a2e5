"""Averaged weights: where they lie, and what is averaged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch

from effnet_ft.models.classifier import Classifier
from effnet_ft.optim.settings import Optimization
from effnet_ft.training.callbacks.weight_ema import WeightEMA
from effnet_ft.training.module import FineTuner


def test_averaged_weights_lie_where_the_trained_ones_will() -> None:
    module = FineTuner(Classifier("lite0", classes=("a", "b")), Optimization(lr=1e-3))
    callback = WeightEMA(0.9)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    callback.setup(cast(Any, trainer), module, "fit")
    average = callback._average_model
    assert average is not None and {value.device.type for value in average.module.state_dict().values()} == {"meta"}
    assert average.n_averaged.device.type == "cpu", "asking for it would wait for the device in every step"


def test_weights_and_statistics_are_averaged_and_counts_are_not() -> None:
    module = FineTuner(Classifier("lite0", classes=("a", "b")), Optimization(lr=1e-3))
    callback = WeightEMA(0.9)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))
    callback.setup(cast(Any, trainer), module, "fit")
    average = callback._average_model
    assert average is not None
    expected: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for update in range(3):
            for value in module.state_dict().values():
                value.add_(torch.ones_like(value))
            average.update_parameters(module)
            weight = 1 - min((1 + update) / (10 + update), 0.9) if update else 1
            for name, value in module.state_dict().items():
                before = expected.get(name, value)
                expected[name] = before + (value - before) * weight if value.is_floating_point() else value.clone()
    found = average.module.state_dict()
    assert [name for name, value in expected.items() if not torch.allclose(value, found[name], atol=1e-5)] == []
