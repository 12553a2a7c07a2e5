"""Where a run computes: what the machine decides, and what the user says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from plans import GPU, plan_of, recipe_of

from effnet_ft.errors import RecipeError
from effnet_ft.planning.devices import device_count, plan_trainer, torch_device
from effnet_ft.planning.facts import Machine, least_of, machine_facts
from effnet_ft.recipe.plan import TrainerPlan


def trainer_of(machine: Machine, *overrides: str) -> TrainerPlan:
    return plan_trainer(recipe_of(*overrides).trainer, machine)[0]


@pytest.mark.parametrize(
    ("machine", "accelerator", "devices", "precision", "strategy"),
    [
        (Machine(), "cpu", 1, "32-true", "single device"),
        (Machine(mps=True), "mps", 1, "32-true", "single device"),
        (Machine(gpus=1), "gpu", 1, "32-true", "single device"),  # it only emulates bfloat16
        (Machine(gpus=1, bf16=True), "gpu", 1, "bf16-mixed", "single device"),
        (Machine(gpus=4, bf16=True), "gpu", 4, "bf16-mixed", "ddp"),
        (Machine(launched=(2, 3)), "cpu", 2, "32-true", "ddp"),
    ],
    ids=["CPU", "Apple", "T4", "A100", "four A100s", "torchrun"],
)
def test_the_machine_decides(machine: Machine, accelerator: str, devices: int, precision: str, strategy: str) -> None:
    plan, reasons = plan_trainer(recipe_of().trainer, machine)
    assert (plan.accelerator, plan.devices, plan.precision, plan.strategy) == (
        *(accelerator, devices, precision, strategy),
    )
    assert plan.num_nodes == (machine.launched or (1, 1))[1]
    assert set(reasons) == {
        f"trainer.{key}" for key in ("accelerator", "devices", "num_nodes", "precision", "strategy")
    }


def test_what_is_given_is_taken_and_needs_no_reason() -> None:
    given = ["accelerator=cpu", "devices=2", "num_nodes=3", "precision=bf16-mixed", "strategy=ddp_find_unused"]
    plan, reasons = plan_trainer(recipe_of(*(f"trainer.{text}" for text in given)).trainer, GPU)
    assert (plan.accelerator, plan.devices, plan.num_nodes, plan.precision) == ("cpu", 2, 3, "bf16-mixed")
    assert (plan.strategy, reasons) == ("ddp_find_unused", {})
    assert not plan.on_gpu and torch_device(plan).type == "cpu"


def test_a_gpu_that_is_not_wanted_decides_nothing() -> None:
    plan = trainer_of(Machine(gpus=4, bf16=True), "trainer.accelerator=cpu")
    assert (plan.devices, plan.precision, plan.strategy) == (1, "32-true", "single device")


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_processes_that_end_with_a_phase_are_refused(strategy: str) -> None:
    with pytest.raises(RecipeError, match=rf"'{strategy}': .* use ddp"):
        trainer_of(Machine(), f"trainer.strategy={strategy}")


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp2", "fsdp_cpu_offload", "deepspeed_stage_2"])
def test_sharded_strategies_are_refused(strategy: str) -> None:
    with pytest.raises(RecipeError, match=rf"'{strategy}'.*b8.*350 MB.*ddp.*trainer\.checkpointing=on"):
        trainer_of(GPU, f"trainer.strategy={strategy}")


def test_another_number_of_processes_than_were_started_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"is 2 and .* 1, but the launcher started 7 processes a node on 1 node: start as"
    ):
        trainer_of(Machine(launched=(7, 1)), "trainer.devices=2")
    assert trainer_of(Machine(launched=(2, 1)), "trainer.devices='0,1'").processes == 2


@pytest.mark.parametrize(("devices", "count"), [(3, 3), ("2", 2), ("0,1", 2), ("1,", 1), ("cuda", 1)])
def test_devices_are_counted_as_lightning_reads_them(devices: int | str, count: int) -> None:
    assert device_count(devices) == count


def test_all_processes_share_the_least_disk_and_memory() -> None:
    machines = [
        Machine(gpus=2, cache_bytes=9, memory_bytes=3, cache="/a"),
        Machine(gpus=1, cache_bytes=5, memory_bytes=8),
    ]
    assert least_of(machines) == Machine(gpus=2, cache_bytes=5, memory_bytes=3, cache="/a")


@pytest.mark.parametrize(("generation", "native"), [(7, False), (8, True)], ids=["T4", "A100"])
def test_a_gpu_that_only_emulates_bfloat16_is_told_from_one_that_has_it(
    generation: int, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda device: SimpleNamespace(major=generation),
        "_check_bf16_tensor_supported": lambda device: True,
    }
    for name, function in replaced.items():
        monkeypatch.setattr(torch.cuda, name, function)
    facts = machine_facts()
    assert (facts.gpus, facts.bf16) == (1, native)


def test_several_devices_shorten_a_phase() -> None:
    phases = "phases=[{train: all, epochs: 1, lr: 1}]"
    one, four = (plan_of(phases, machine=Machine(gpus=count)).phases[0].steps for count in (1, 4))
    assert one == pytest.approx(4 * four, abs=4)
