"""Runs a network over many images without training it: every core busy from the file to the numbers.

On the CPU each thread takes a few images from reading to the network's answer, which it computes alone: no thread waits
for another within a layer, and activations stay in the cache. With an accelerator, threads read ahead of it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from effnet_ft.data.images.decoding import silence_pillow
from effnet_ft.distributed.collectives import rank
from effnet_ft.utils.progress import progress_bar
from effnet_ft.utils.shared_context import SharedContext

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_AT_ONCE_ON_THE_CPU = 8
_READERS = 16


def forward_images(
    items: Sequence[Item],
    prepare: Callable[[Item], np.ndarray],
    compute: Callable[[Tensor], Answer],
    *,
    device: torch.device,
    batch_size: int,
    title: str,
) -> Iterator[tuple[int, Answer]]:
    """Yield what the network makes of all items, in order, a batch at a time.

    Args:
        items: what ``prepare`` takes.
        prepare: reads an item as uint8 ``[size, size, 3]``, or views of it, ``[V, size, size, 3]``; called by several
            threads at once.
        compute: maps a batch, ``[N, size, size, 3]`` or ``[N, V, size, size, 3]``, on the CPU, to whatever is wanted;
            called without gradients, on the CPU by several threads at once, each of which computes a layer alone.
        device: where ``compute`` works.
        batch_size: items at once; on the CPU no more than are good for it, on a GPU no more than it has room for.
        title: of the progress bar, which a terminal shows for more than two seconds' work.

    Yields:
        The number of the batch's first item, and its answer.

    Raises:
        Exception: what ``prepare`` or ``compute`` raise.
    """

    @torch.inference_mode()
    def answered(batch: list[np.ndarray]) -> Answer:
        return compute(torch.from_numpy(np.stack(batch)))

    bar = progress_bar(title, total=len(items), shown=rank() == 0)
    with bar, silence_pillow():
        batches = _on_each_core if device.type == "cpu" else _on_a_device
        done = 0
        for answer, count in batches(items, prepare, answered, batch_size):
            yield done, answer
            done += count
            bar.update(count)


def effective_batch_size(device: torch.device, batch_size: int) -> int:
    """Return how many images are computed at once where ``batch_size`` are asked for, at least one."""
    return max(1, min(batch_size, _AT_ONCE_ON_THE_CPU) if device.type == "cpu" else batch_size)


def _on_each_core(
    items: Sequence[Item],
    prepare: Callable[[Item], np.ndarray],
    answered: Callable[[list[np.ndarray]], Answer],
    batch_size: int,
) -> Iterator[tuple[Answer, int]]:
    size = effective_batch_size(torch.device("cpu"), batch_size)
    batches = (items[start : start + size] for start in range(0, len(items), size))

    def work(batch: Sequence[Item]) -> tuple[Answer, int]:
        return answered([prepare(item) for item in batch]), len(batch)

    with _threads_of_torch() as threads:
        try:
            with _pool(threads, lambda: torch.set_num_threads(1)) as pool:
                yield from _in_order(pool, work, batches, 2 * threads)
        finally:
            torch.set_num_threads(threads)  # for threads to come: those of the pool have set it for them too


def _on_a_device(
    items: Sequence[Item],
    prepare: Callable[[Item], np.ndarray],
    answered: Callable[[list[np.ndarray]], Answer],
    batch_size: int,
) -> Iterator[tuple[Answer, int]]:
    most, batch = batch_size, list[np.ndarray]()
    with _pool(_READERS) as pool:
        prepared = _in_order(pool, prepare, iter(items), 2 * batch_size)
        while batch := batch or list(islice(prepared, most)):
            part = batch[:most]
            try:
                yield answered(part), len(part)
                batch = batch[most:]
                continue
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
            most = len(part) // 2
            log.info("%d images at once do not fit on the GPU: %d are tried", len(part), most)
            torch.cuda.empty_cache()


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Answer], items: Iterator[Item], ahead: int
) -> Iterator[Answer]:
    """Yield ``work`` of each item, in order; no more than ``ahead`` are begun and not taken."""
    begun: deque[Future[Answer]] = deque(pool.submit(work, item) for item in islice(items, ahead))
    while begun:
        answer = begun.popleft().result()
        begun.extend(pool.submit(work, item) for item in islice(items, 1))
        yield answer


@contextmanager
def _pool(threads: int, begin: Callable[[], None] | None = None) -> Iterator[ThreadPoolExecutor]:
    """Give a pool whose threads call ``begin`` first; what it has not begun when the block ends is dropped."""
    pool = ThreadPoolExecutor(threads, initializer=begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@SharedContext
@contextmanager
def _threads_of_torch() -> Iterator[int]:
    """Give how many threads torch computes a layer with, before any call here has changed it."""
    yield torch.get_num_threads()
