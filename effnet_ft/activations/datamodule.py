"""Training and validation batches of stored activations: no image is read, no frozen layer computed."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from effnet_ft.data.images.views import Views
from effnet_ft.data.sampling import DistributedBatchSampler, EpochSampler, evaluation_batches
from effnet_ft.distributed import collectives

ActivationBatch = tuple[Tensor, Tensor]
"""Activations ``[N, C, h, w]`` in channels-last memory or features ``[N, F]``; class indices ``[N]`` or labels
``[N, K]``."""


@dataclass(eq=False)
class ActivationDataset(Dataset[ActivationBatch]):
    """Batches of stored activations with their labels, indexed by lists of ``epoch * len(dataset) + index``."""

    arrays: Sequence[np.ndarray]  # one for each view, [N, h, w, C] or [N, F]
    labels: np.ndarray  # class indices, [N], or labels of 0 and 1, [N, K]
    views: Views | None = None  # gives the view of an image in an epoch; None if there is one

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, items: list[int]) -> ActivationBatch:
        epochs, indices = np.divmod(np.array(items), len(self))
        numbers = self.views.turn(epochs, indices) if self.views else np.zeros_like(indices)
        batch = np.empty((len(indices), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        for number, array in enumerate(self.arrays):
            chosen = numbers == number
            batch[chosen] = array[indices[chosen]]
        activations = torch.from_numpy(batch)
        if activations.ndim == 4:
            activations = activations.permute(0, 3, 1, 2)
        return activations, torch.from_numpy(self.labels[indices])


class ActivationDataModule(pl.LightningDataModule):
    """Training and validation batches of one phase from the store, as of ``ImageDataModule`` and in the same order.

    ``train`` are arrays of the training images, one for each of ``views``, ``val`` is the array of the validation
    images; ``labels`` are those of both. ``share`` are rank and number of the processes that share the batches.
    """

    def __init__(
        self,
        train: Sequence[np.ndarray],
        val: np.ndarray,
        labels: tuple[np.ndarray, np.ndarray],
        views: Views,
        *,
        batch_size: int,
        balanced: bool = False,
        seed: Sequence[int] = (0,),
    ) -> None:
        super().__init__()
        self.begin = (0, 0)
        self.train = ActivationDataset(train, labels[0], views)
        self.val = ActivationDataset([val], labels[1])
        self.batch_size = batch_size
        self.balanced = balanced
        self.seed = tuple(seed)
        self.share = (collectives.rank(), collectives.world_size())

    def alone(self) -> Self:
        """Return the same for a single process, whose batches are those of all processes together."""
        module = copy.copy(self)
        module.share, module.batch_size = (0, 1), self.batch_size * self.share[1]
        return module

    def train_dataloader(self) -> DataLoader[ActivationBatch]:
        """Return this process's part of each shuffled training batch."""
        labels = self.train.labels if self.balanced else None
        sampler = EpochSampler(len(self.train), (*self.seed, 2), labels)
        batches = DistributedBatchSampler(sampler, self.batch_size, self.share)
        batches.start_at(*self.begin)
        return _loader(self.train, batches)

    def val_dataloader(self) -> DataLoader[ActivationBatch]:
        """Return this process's validation batches, in order."""
        return _loader(self.val, evaluation_batches(len(self.val), self.batch_size, self.share))


def _loader(
    dataset: ActivationDataset, batches: DistributedBatchSampler | list[list[int]]
) -> DataLoader[ActivationBatch]:
    return DataLoader(dataset, batch_size=None, sampler=batches, pin_memory=torch.cuda.is_available())
