"""What the machine and the length of a run decide."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tiny import TINY

from effnet_ft.errors import RecipeError
from effnet_ft.models.classifier import Classifier
from effnet_ft.planning.phases import PhasePlan, plan_phases
from effnet_ft.recipe import TrainerSettings, load_recipe
from effnet_ft.runs.run_folder import Run
from effnet_ft.training.callbacks.epochs import WeightEMA
from effnet_ft.training.module import FineTuner
from effnet_ft.training.trainer import build_trainer, resolve_devices, worth_compiling

LONG, SHORT = 1_000_000, 1_000


def plan_of(train: str, *overrides: str) -> PhasePlan:
    phases = f"phases=[{{train: {train}, epochs: 3, lr: 1e-3}}]"
    return plan_phases(load_recipe("folder", ["data.root=x", phases, *TINY, "data.batch_size=32", *overrides]))[0]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("train", "images", "stored", "accelerator", "worth"),
    [
        ("all", LONG, False, "gpu", True),
        ("all", LONG, False, "cuda", True),
        ("all", SHORT, False, "gpu", False),
        ("stage6", LONG, False, "gpu", False),
        ("stage6", LONG, True, "gpu", False),
        ("head", LONG, True, "gpu", False),
        ("all", LONG, False, "cpu", False),
    ],
)
def test_a_long_phase_that_trains_everything_on_a_gpu_is_compiled(
    train: str, images: int, stored: bool, accelerator: str, worth: bool
) -> None:
    assert worth_compiling(plan_of(train, f"trainer.accelerator={accelerator}"), images, stored) == worth


@pytest.mark.parametrize(("word", "worth"), [("on", True), ("off", False)])
@pytest.mark.parametrize("images", [LONG, SHORT])
def test_the_user_has_the_last_word(word: str, worth: bool, images: int) -> None:
    assert worth_compiling(plan_of("all", f"trainer.compile={word}"), images, False) == worth


@pytest.mark.usefixtures("compiler")
def test_what_is_computed_again_is_not_compiled(tmp_path: Path) -> None:
    # PyTorch fails on it: "`context_fn` arg passed to `torch.utils.checkpoint` must generate ..."
    settings = ["trainer.accelerator=gpu", "trainer.checkpointing=on"]
    assert not worth_compiling(plan_of("all", *settings), LONG, False)
    with pytest.raises(RecipeError, match=r"trainer\.compile is 'on'.*trainer\.checkpointing"):
        build_trainer(plan_of("all", *settings, "trainer.compile=on"), Run(tmp_path), [], [])


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp2", "fsdp_cpu_offload", "deepspeed_stage_2"])
def test_sharded_strategies_are_refused(strategy: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"'{strategy}'.*b8.*350 MB.*ddp.*trainer\.checkpointing=on"):
        build_trainer(plan_of("all", f"trainer.strategy={strategy}"), Run(tmp_path), [], [])


def test_without_a_compiler_nothing_is_compiled_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not worth_compiling(plan_of("all", "trainer.accelerator=gpu"), LONG, False)


@pytest.mark.parametrize(("generation", "precision"), [(7, "32-true"), (8, "bf16-mixed")], ids=["T4", "A100"])
def test_a_gpu_that_only_emulates_bfloat16_is_not_given_it(
    generation: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(major=generation)
    replaced = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda device: properties,
        "_check_bf16_tensor_supported": lambda device: True,
    }
    for name, function in replaced.items():
        monkeypatch.setattr(torch.cuda, name, function)
    settings = TrainerSettings()
    resolve_devices(settings)
    assert (settings.accelerator, settings.precision) == ("gpu", precision)


def test_averaged_weights_lie_where_the_trained_ones_will() -> None:
    module = FineTuner(Classifier("lite0", classes=("a", "b")), lr=1e-3)
    callback = WeightEMA(0.9)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    callback.setup(cast(Any, trainer), module, "fit")
    average = callback._average_model
    assert average is not None and {value.device.type for value in average.module.state_dict().values()} == {"meta"}
    assert average.n_averaged.device.type == "cpu", "asking for it would wait for the device in every step"


def test_weights_and_statistics_are_averaged_and_counts_are_not() -> None:
    module = FineTuner(Classifier("lite0", classes=("a", "b")), lr=1e-3)
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
