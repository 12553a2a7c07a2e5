"""Images in batches: the data set, the order of each epoch, and Lightning's DataModule over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from effnet_ft.data.decoded import DecodedImages
from effnet_ft.data.images import ignore_pillow_warnings, read_image, read_reduced
from effnet_ft.data.sources import Sample
from effnet_ft.data.splits import Split
from effnet_ft.data.transforms import AUGMENTATIONS, SHORT_SIDE, Transform, augmentation
from effnet_ft.preprocessing import Preprocessing

Batch = tuple[Tensor, Tensor]
"""Images uint8 ``[N, 3, size, size]``, RGB, in channels-last memory, and what
:meth:`effnet_ft.data.splits.Split.labels` returns of them."""


class ImageDataset(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Images with their class or labels, augmented.

    An item is asked for by ``epoch * len(dataset) + index``: the augmentation is drawn from the seed, the epoch and the
    index alone, whichever process reads it.

    Args:
        root: the folder that the samples' paths are relative to.
        samples: the images.
        labels: class indices, ``[N]``, or labels of 0 and 1, ``[N, K]``.
        transform: maps image and seed to a view.
        seed: numbers that the augmentation starts from.
        short: reads images with their short side reduced to so many pixels; None reads them whole.
        decoded: the images where they are kept decoded; None reads the files.
    """

    def __init__(
        self,
        root: Path,
        samples: Sequence[Sample],
        labels: np.ndarray,
        transform: Transform,
        seed: Sequence[int] = (0,),
        short: int | None = None,
        decoded: DecodedImages | None = None,
    ) -> None:
        self.root = root
        self.samples = samples
        self.labels = labels
        self.transform = transform
        self.seed = tuple(seed)
        self.short = short
        self.decoded = decoded

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, index = divmod(item, len(self.samples))
        draw = int(np.random.SeedSequence([*self.seed, epoch, index]).generate_state(1)[0])
        return self.transform(self._image(index), draw), self.labels[index]

    def _image(self, index: int) -> np.ndarray:
        if self.decoded:
            return self.decoded[index]
        path = self.root / self.samples[index].path
        return read_image(path) if self.short is None else read_reduced(path, self.short)


class EpochSampler(Sampler[int]):
    """The order of an epoch, drawn from the seed and the epoch; each process of a distributed run takes its share.

    Yields ``epoch * length + index``; balanced, how often the image was shown before stands for the epoch. Every
    process takes as many items, so that none waits for another: with several processes the first items of the order are
    given out a second time where the length does not divide.

    Args:
        length: images in the data set.
        seed: numbers that the order starts from.
        labels: class indices, to show each class equally often, in an epoch of about as many images: of a rare class
            each image several times, of a frequent one a part in each epoch. None shows each image once.
    """

    def __init__(self, length: int, seed: Sequence[int], labels: np.ndarray | None = None) -> None:
        self.length = length
        self.seed = tuple(seed)
        self.epoch = 0
        self._classes = [] if labels is None else [np.flatnonzero(labels == name) for name in np.unique(labels)]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        shown = self._of_each() * len(self._classes) or self.length
        return -(-shown // _process()[1])

    def _of_each(self) -> int:
        """Return how many images of each class an epoch shows; 0 where classes do not matter."""
        return max(1, round(self.length / len(self._classes))) if self._classes else 0

    def _items(self) -> np.ndarray:
        random = np.random.default_rng([*self.seed, self.epoch])
        if not self._classes:
            return self.epoch * self.length + random.permutation(self.length)
        return random.permutation(np.concatenate([self._turns(number) for number in range(len(self._classes))]))

    def _turns(self, number: int) -> np.ndarray:
        """Return a class's items of this epoch: they go on where the last ended, each time round as another view."""
        order = np.random.default_rng([*self.seed, number]).permutation(self._classes[number])
        count = self._of_each()
        rounds, places = np.divmod(np.arange(self.epoch * count, (self.epoch + 1) * count), len(order))
        return rounds * self.length + order[places]

    def __iter__(self) -> Iterator[int]:
        items = self._items()
        rank, processes = _process()
        return iter(np.resize(items, len(self) * processes)[rank::processes].tolist())


class WholeBatches(Sampler[list[int]]):
    """Batches of a sampler's items. A last batch of one image joins the batch before it: one image has no statistics.

    Args:
        sampler: gives the items.
        batch_size: of all batches but the last.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        batches, left = divmod(len(self.sampler), self.batch_size)
        return max(1, batches + (left > 1))

    def __iter__(self) -> Iterator[list[int]]:
        items = list(self.sampler)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        for start in starts:
            last = start == starts[-1]
            yield items[start:] if last else items[start : start + self.batch_size]


class ImageDataModule(pl.LightningDataModule):
    """Training and validation batches of one phase.

    Args:
        split: the images.
        preprocessing: of the model, at the size it is to see.
        batch_size: images a device and step.
        augment: a name in :data:`effnet_ft.data.transforms.AUGMENTATIONS`.
        erasing: as of :func:`effnet_ft.data.transforms.augmentation`.
        cutout: likewise.
        balanced: show each class equally often.
        workers: processes that read images; 0 reads in the training process.
        seed: numbers that order and augmentation start from.
        decoded: the training images (as evaluated, where ``augment`` is ``none``) and the validation images as
            evaluated, where they are kept decoded.
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
        balanced: bool = False,
        workers: int = 0,
        seed: Sequence[int] = (0,),
        decoded: tuple[DecodedImages | None, DecodedImages | None] = (None, None),
    ) -> None:
        super().__init__()
        self.decoded = decoded
        self.split = split
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.augment = augment
        self.rates = {"erasing": erasing, "cutout": cutout}
        self.balanced = balanced
        self.workers = workers
        self.seed = tuple(seed)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the augmented, shuffled training batches."""
        samples = self.split.train
        labels, seed = self.split.labels(samples), (*self.seed, 1)
        plain = self.augment == "none"
        augmented = augmentation(self.augment, self.preprocessing, **self.rates)
        transform = _as_they_are if plain and self.decoded[0] else augmented
        short = None if plain else int(SHORT_SIDE * self.preprocessing.size)
        dataset = ImageDataset(self.split.root, samples, labels, transform, seed, short, self.decoded[0])
        sampler = EpochSampler(len(dataset), (*self.seed, 2), labels if self.balanced else None)
        batches = WholeBatches(sampler, self.batch_size)
        return image_loader(dataset, self.workers, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, in order, as the network is evaluated."""
        return evaluation_loader(
            self.split, self.split.val, self.preprocessing, self.batch_size, self.workers, self.decoded[1]
        )


def evaluation_loader(
    split: Split,
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int,
    decoded: DecodedImages | None = None,
) -> DataLoader[Batch]:
    """Return ``samples`` of ``split`` in order, resized and cropped, not augmented; ``decoded`` are so already."""
    transform = _as_they_are if decoded else AUGMENTATIONS["none"](preprocessing)
    dataset = ImageDataset(split.root, samples, split.labels(samples), transform, decoded=decoded)
    return image_loader(dataset, workers, batch_size=batch_size)


def image_loader(dataset: Dataset[Any], workers: int, **how: Any) -> DataLoader[Batch]:
    """Return a DataLoader of :data:`Batch` over ``dataset``; ``how`` says its batches or their size."""
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=prepare_worker,
        **how,
    )


def _as_they_are(image: np.ndarray, seed: int) -> np.ndarray:
    return image


def _collate(items: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """Stack ``[size, size, 3]`` images; the channel axis is moved in name only, so the memory is channels-last."""
    images = torch.from_numpy(np.stack([image for image, _ in items])).permute(0, 3, 1, 2)
    return images, torch.from_numpy(np.stack([label for _, label in items]))


def prepare_worker(_: int) -> None:
    """Set up a process that does nothing but read images."""
    import cv2

    ignore_pillow_warnings()
    cv2.setNumThreads(0)  # a worker that starts threads of its own fights the other workers for the cores


def _process() -> tuple[int, int]:
    """Return this process's rank and the number of processes; Lightning sets both before it builds the loaders."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed:
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
