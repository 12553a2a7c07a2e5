"""Where a run computes: accelerator, devices, strategy and precision."""

import re

import torch

from effnet_ft.errors import RecipeError
from effnet_ft.planning.facts import Machine
from effnet_ft.recipe.plan import TrainerPlan
from effnet_ft.recipe.schema import TrainerSettings
from effnet_ft.utils.text import counted

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""The dtype of matrix products by precision; otherwise that of the weights."""


def plan_trainer(settings: TrainerSettings, machine: Machine) -> tuple[TrainerPlan, dict[str, str]]:
    """Decide accelerator, devices, nodes, strategy and precision; return them and their reasons by dotted keys.

    Raises:
        RecipeError: if the strategy cannot train phases, or a launcher started another number of processes.
    """
    reasons: dict[str, str] = {}
    accelerator = settings.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if machine.gpus else "mps" if machine.mps else "cpu"
        reasons["trainer.accelerator"] = {"gpu": "torch sees a GPU", "mps": "Apple's GPU"}.get(accelerator, "no GPU")
    gpu = bool(machine.gpus) and accelerator in ("gpu", "cuda")
    devices, nodes = settings.devices, settings.num_nodes
    if devices == "auto":
        devices = machine.launched[0] if machine.launched else machine.gpus if gpu else 1
        why = "all GPUs" if gpu else "one process uses all cores"
        reasons["trainer.devices"] = "as it was launched" if machine.launched else why
    if nodes == "auto":
        nodes = machine.launched[1] if machine.launched else 1
        reasons["trainer.num_nodes"] = "as it was launched" if machine.launched else "no launcher says otherwise"
    assert not isinstance(nodes, str)
    precision = settings.precision
    if precision == "auto":
        native = gpu and machine.bf16
        precision = "bf16-mixed" if native else "32-true"
        reasons["trainer.precision"] = "the GPU computes in bfloat16" if native else "no GPU with bfloat16"
    strategy = settings.strategy
    if strategy.endswith(("_spawn", "_fork", "_notebook")):
        raise RecipeError(f"trainer.strategy is '{strategy}': phases need processes that live on; use ddp")
    if "fsdp" in strategy or "deepspeed" in strategy:
        raise RecipeError(
            f"trainer.strategy is '{strategy}': weights are not sharded: b8, the largest variant, has 350 MB of them; "
            "use ddp, with trainer.checkpointing=on where the activations do not fit"
        )
    if machine.launched and machine.launched != (device_count(devices), nodes):
        raise RecipeError(
            f"trainer.devices is {devices} and trainer.num_nodes {nodes}, but the launcher started "
            f"{counted(machine.launched[0], 'process')} a node on {counted(machine.launched[1], 'node')}: "
            "start as many, or leave both keys out of a new run"
        )
    processes = device_count(devices) * nodes
    if strategy == "auto":
        several = processes > 1
        strategy = "ddp" if several else "single device"
        reasons["trainer.strategy"] = "several devices" if several else "one device"
    plan = TrainerPlan(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        processes=processes,
        strategy=strategy,
        precision=precision,
        checkpoint_minutes=settings.checkpoint_minutes,
        timeout_minutes=settings.timeout_minutes,
        loggers=tuple(settings.loggers),
    )
    return plan, reasons


def device_count(devices: int | str) -> int:
    """Return how many devices a node ``trainer.devices`` stands for: ``2`` and ``"0,1"`` are two, ``-1`` is all."""
    if isinstance(devices, int) or re.fullmatch(r"\s*-?\d+\s*", devices):
        return int(devices) if int(devices) > 0 else max(1, torch.cuda.device_count())
    return len(re.findall(r"\d+", devices)) or 1


def torch_device(trainer: TrainerPlan) -> torch.device:
    """Return where a single process computes."""
    return torch.device({"gpu": "cuda"}.get(trainer.accelerator, trainer.accelerator))
