"""Fully sharded training: each process holds a part of every block, of its gradients and of the optimiser's state.

Lightning's strategy over PyTorch's ``fully_shard``. A phase shards a copy of the network and gives its weights back, so
that what comes between phases finds a whole one. PyTorch's modules for this are loaded where they are needed.
"""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy

from effnet_ft.errors import RecipeError
from effnet_ft.models.classifier import Classifier

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from effnet_ft.planning.phases import PhasePlan

NAME = "fsdp"
"""The word of ``trainer.strategy``."""


class ShardedStrategy(ModelParallelStrategy):
    """Shards over all processes; checkpoints are whole, as without sharding.

    Args:
        timeout: how long a process waits for the others.
    """

    def __init__(self, timeout: timedelta) -> None:
        super().__init__(save_distributed_checkpoint=False, timeout=timeout)

    def setup_environment(self) -> None:
        """Meet the other processes; with a network, also say how it is divided."""
        if self.lightning_module is None:  # they meet before the first phase has one
            self._setup_distributed()
            return
        self._data_parallel_size, self._tensor_parallel_size = self.world_size, 1
        super().setup_environment()


def check_sharding(plan: PhasePlan) -> None:
    """Refuse settings that sharded weights do not go with.

    Raises:
        RecipeError: naming all of them.
    """
    faults = {
        "optim.ema": (plan.optim.ema != "off", "an average of weights is kept whole"),
        "trainer.compile": (plan.trainer.compile == "on", "sharded blocks are not compiled"),
        "trainer.precision": (plan.trainer.precision == "16-mixed", "its scaled gradients are not sharded; bf16-mixed"),
    }
    if told := [
        f"trainer.strategy is '{NAME}', not with {key}: {why}" for key, (set_so, why) in faults.items() if set_so
    ]:
        raise RecipeError(told)


def is_sharded(trainer: pl.Trainer) -> bool:
    """Return whether ``trainer`` divides the weights."""
    return isinstance(trainer.strategy, ShardedStrategy)


def to_be_sharded(model: Classifier) -> Classifier:
    """Return a copy of ``model`` for a phase to divide; its kernels lie in memory as dividing them needs."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)


def shard(model: Classifier, mesh: DeviceMesh, stored: bool) -> None:
    """Divide the parameters of every block over the processes of ``mesh``, in place.

    Args:
        model: from :func:`to_be_sharded`.
        mesh: one axis.
        stored: it is called by :meth:`Classifier.suffix`.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for block in model.blocks():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if stored:
        register_fsdp_forward_method(model, "suffix")


def take_weights(model: Classifier, sharded: Classifier) -> None:
    """Copy what ``sharded`` has learned into ``model``; all processes call this together."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(sharded, options=StateDictOptions(full_state_dict=True))
    model.load_state_dict(state)
