"""The image data set, its loaders, and the DataModule over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from effnet_ft.data.images.decoded_store import DecodedImages
from effnet_ft.data.images.decoding import ignore_pillow_warnings, read_image
from effnet_ft.data.images.transforms import SHORT_SIDE, SMALLEST_CROP, Transform, augmentation
from effnet_ft.data.sampling import DistributedBatchSampler, EpochSampler, evaluation_batches
from effnet_ft.data.sources.source import Sample
from effnet_ft.data.splits.split import Split
from effnet_ft.preprocessing import Preprocessing

Batch = tuple[Tensor, Tensor]
"""Images, uint8 ``[N, 3, size, size]``, RGB, in channels-last memory; class indices ``[N]`` or labels ``[N, K]``."""


@dataclass(eq=False)
class ImageDataset(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Augmented images with their labels (class indices ``[N]``, or 0 and 1 ``[N, K]``).

    Items are indexed by ``epoch * len(dataset) + index``: the augmentation depends on the seed, the epoch and the index
    alone. Images come from ``decoded`` if given, else from files, downscaled to a short side of ``short`` pixels.
    """

    root: Path
    samples: Sequence[Sample]
    labels: np.ndarray
    transform: Transform
    seed: Sequence[int] = (0,)
    short: int | None = None
    decoded: DecodedImages | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, index = divmod(item, len(self.samples))
        draw = int(np.random.SeedSequence([*self.seed, epoch, index]).generate_state(1)[0])
        image = self.decoded[index] if self.decoded else read_image(self.root / self.samples[index].path, self.short)
        return self.transform(image, draw), self.labels[index]


class ImageDataModule(pl.LightningDataModule):
    """Training and validation batches of one phase.

    Args:
        split: the images.
        preprocessing: of the model, at the size it is to see.
        batch_size: images per device and step.
        augment: see :func:`effnet_ft.data.images.transforms.augmentation`, also for the next three.
        erasing: a probability.
        cutout: a share of the input's side.
        smallest_crop: a share of an image's area.
        balanced: show each class equally often.
        workers: processes that read images; 0 reads in the training process.
        seed: of order and augmentation.
        decoded: decoded training images (as evaluated if ``augment`` is ``none``) and validation images.

    Attributes:
        begin: the first epoch, and the first batch in it; set it before training.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        augment: str = "basic",
        erasing: float = 0.0,
        cutout: float = 0.0,
        smallest_crop: float = SMALLEST_CROP,
        balanced: bool = False,
        workers: int = 0,
        seed: Sequence[int] = (0,),
        decoded: tuple[DecodedImages | None, DecodedImages | None] = (None, None),
    ) -> None:
        super().__init__()
        self.begin = (0, 0)
        self.decoded = decoded
        self.split = split
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.augment = augment
        self.rates = {"erasing": erasing, "cutout": cutout, "smallest_crop": smallest_crop}
        self.balanced = balanced
        self.workers = workers
        self.seed = tuple(seed)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the augmented, shuffled training batches."""
        samples, decoded, plain = self.split.train, self.decoded[0], self.augment == "none"
        labels = self.split.labels(samples)
        transform = _identity if plain and decoded else augmentation(self.augment, self.preprocessing, **self.rates)
        short = None if plain else int(SHORT_SIDE * self.preprocessing.size)
        dataset = ImageDataset(self.split.root, samples, labels, transform, (*self.seed, 1), short, decoded)
        sampler = EpochSampler(len(dataset), (*self.seed, 2), labels if self.balanced else None)
        batches = DistributedBatchSampler(sampler, self.batch_size)
        batches.start_at(*self.begin)
        return image_loader(dataset, self.workers, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return this process's validation batches, in order and not augmented."""
        samples, decoded = self.split.val, self.decoded[1]
        transform = _identity if decoded else augmentation("none", self.preprocessing)
        dataset = ImageDataset(self.split.root, samples, self.split.labels(samples), transform, decoded=decoded)
        batches = evaluation_batches(len(dataset), self.batch_size)
        return image_loader(dataset, self.workers, batch_sampler=batches)


def image_loader(dataset: Dataset[Any], workers: int, **arguments: Any) -> DataLoader[Batch]:
    """Return a DataLoader of :data:`Batch`; ``arguments`` give its batches or their size."""
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_prepare_worker,
        **arguments,
    )


def _identity(image: np.ndarray, seed: int) -> np.ndarray:
    return image


def _collate(items: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """Stack ``[size, size, 3]`` images; permuting the axes keeps the memory channels-last."""
    images = torch.from_numpy(np.stack([image for image, _ in items])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.stack([label for _, label in items]))
    if get_worker_info() is not None:
        for tensor in (images, labels):
            # A full /dev/shm raises here; in the queue's thread the error would be lost and the loader hang.
            tensor.untyped_storage().share_memory_()
    return images, labels


def _prepare_worker(_: int) -> None:
    import cv2

    ignore_pillow_warnings()
    cv2.setNumThreads(0)  # workers would compete for the cores
