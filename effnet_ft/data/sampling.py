"""Which images a step sees: the order of an epoch, and each process's part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from effnet_ft.distributed import collectives


class EpochSampler(Sampler[int]):
    """The order of an epoch, drawn from the seed and the epoch, and the same in every process.

    Yields ``epoch * length + index``; balanced, how often the image was shown before stands for the epoch.

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
        return self._of_each() * len(self._classes) or self.length

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
        return iter(self._items().tolist())


def batches_an_epoch(images: int, batch_size: int, processes: int) -> int:
    """Return how many batches each process trains an epoch; a last one of less than two images joins the one before."""
    batches, left = divmod(images, batch_size * processes)
    return max(1, batches + (left >= 2 * processes))


class DistributedBatchSampler(Sampler[list[int]]):
    """This process's part of the batches of a sampler's items.

    The processes take turns in a step's items: together they train on the images that one process would, with batches
    that are as many times as large. Each item is given out once; in the last step of an epoch a process may have an
    item more than another. A last step with fewer than two images a process joins the step before it: one image has no
    statistics.

    Args:
        sampler: gives the items.
        batch_size: of a process, in all steps but the last.
        share: rank and number of processes; None takes those of this run.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, share: tuple[int, int] | None = None) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.rank, self.processes = share or (collectives.rank(), collectives.world_size())
        self._begin = (0, 0)

    def start_at(self, epoch: int, batch: int) -> None:
        """Begin with ``epoch``, and in it with ``batch``: a resumed run asks for no item that it has trained on."""
        self._begin = (epoch, batch)
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return batches_an_epoch(len(self.sampler), self.batch_size, self.processes)

    def images_in_step(self, batch: int, together: int) -> int:
        """Return how many images all processes have in a step of the optimiser.

        Args:
            batch: one of the step's, from 0 at the beginning of the epoch.
            together: batches that a step accumulates; the last step of an epoch may have fewer.
        """
        number, images = batch // together, self.batch_size * self.processes * together
        return images if (number + 1) * together < len(self) else len(self.sampler) - number * images

    def __iter__(self) -> Iterator[list[int]]:
        items = list(self.sampler)
        step = self.batch_size * self.processes
        begin, done = self._begin
        for number in range(done if self.sampler.epoch == begin else 0, len(self)):
            end = len(items) if number == len(self) - 1 else (number + 1) * step
            yield items[number * step + self.rank : end : self.processes]


def evaluation_loader_options(length: int, batch_size: int, share: tuple[int, int] | None = None) -> list[list[int]]:
    """Return this process's part of ``length`` images to be evaluated in order, in batches: each image once.

    All processes have as many batches, so that none waits for another; one may have an image more than ``batch_size``.

    Args:
        length: at least as many as there are processes.
        batch_size: of a process.
        share: as of :class:`DistributedBatchSampler`.
    """
    rank, count = share or (collectives.rank(), collectives.world_size())
    most = -(-length // count)
    batches = min(-(-most // batch_size), length // count)
    own = np.array_split(np.arange(length), count)[rank]
    return [batch.tolist() for batch in np.array_split(own, batches)]
