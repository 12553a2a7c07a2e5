"""The order of images in an epoch, and each process's share of it."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from effnet_ft.distributed import collectives


class EpochSampler(Sampler[int]):
    """The order of an epoch as ``epoch * length + index``, the same in every process.

    Args:
        length: images in the data set.
        seed: of the order.
        labels: class indices, to show each class equally often in an epoch of about the same length: images of a rare
            class several times, of a frequent class in turns, with the number of earlier occurrences as the epoch.
    """

    def __init__(self, length: int, seed: Sequence[int], labels: np.ndarray | None = None) -> None:
        self.length = length
        self.seed = tuple(seed)
        self.epoch = 0
        self._classes = [] if labels is None else [np.flatnonzero(labels == name) for name in np.unique(labels)]
        self._per_class = max(1, round(length / len(self._classes))) if self._classes else 0  # images in an epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._per_class * len(self._classes) or self.length

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([*self.seed, self.epoch])
        items = [self._class_items(number) for number in range(len(self._classes))]
        order = random.permutation(np.concatenate(items) if items else self.length)
        return iter((order if items else self.epoch * self.length + order).tolist())

    def _class_items(self, number: int) -> np.ndarray:
        """Return a class's items in this epoch, continuing from the last one and with another view in each round."""
        order = np.random.default_rng([*self.seed, number]).permutation(self._classes[number])
        rounds, positions = np.divmod(self.epoch * self._per_class + np.arange(self._per_class), len(order))
        return rounds * self.length + order[positions]


def batches_an_epoch(images: int, batch_size: int, processes: int) -> int:
    """Return the batches of a process in an epoch; a last one of fewer than two images joins the one before."""
    batches, remainder = divmod(images, batch_size * processes)
    return max(1, batches + (remainder >= 2 * processes))


class DistributedBatchSampler(Sampler[list[int]]):
    """This process's share of batches.

    Together the processes train on the batches of one process with their summed batch size. Each item occurs once; in
    the last step some processes may have one more. A last step with fewer than two images per process, too few for
    batch norms, joins the step before.

    ``share`` is rank and number of processes; None means those of this run.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, share: tuple[int, int] | None = None) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.rank, self.processes = share or (collectives.rank(), collectives.world_size())
        self._begin = (0, 0)

    def start_at(self, epoch: int, batch: int) -> None:
        """Start in ``epoch`` at ``batch``, as a resumed run does."""
        self._begin = (epoch, batch)
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return batches_an_epoch(len(self.sampler), self.batch_size, self.processes)

    def images_in_step(self, batch: int, accumulate: int) -> int:
        """Return the images of all processes in the optimiser step (of ``accumulate`` batches) of ``batch``."""
        number, images = batch // accumulate, self.batch_size * self.processes * accumulate
        return images if (number + 1) * accumulate < len(self) else len(self.sampler) - number * images

    def __iter__(self) -> Iterator[list[int]]:
        items = list(self.sampler)
        step = self.batch_size * self.processes
        epoch, first = self._begin
        for number in range(first if self.sampler.epoch == epoch else 0, len(self)):
            end = len(items) if number == len(self) - 1 else (number + 1) * step
            yield items[number * step + self.rank : end : self.processes]


def evaluation_batches(length: int, batch_size: int, share: tuple[int, int] | None = None) -> list[list[int]]:
    """Return this process's share of ``length`` images in order, in batches, each image once.

    All processes have equally many batches; one may have an image more than ``batch_size``. There must be no more
    processes than images; ``share`` is as for :class:`DistributedBatchSampler`.
    """
    rank, processes = share or (collectives.rank(), collectives.world_size())
    most = -(-length // processes)
    batches = min(-(-most // batch_size), length // processes)
    own = np.array_split(np.arange(length), processes)[rank]
    return [batch.tolist() for batch in np.array_split(own, batches)]
