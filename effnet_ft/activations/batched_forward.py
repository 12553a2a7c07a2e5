"""Runs a network over many images without training it.

On the CPU each thread reads a few images and computes them alone: no thread waits for another within a layer, and
activations stay in the cache. With an accelerator, threads read ahead of it.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
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
Result = TypeVar("Result")

_CPU_BATCH_SIZE = 8
_READERS = 16


def forward_images(
    items: Sequence[Item],
    prepare: Callable[[Item], np.ndarray],
    compute: Callable[[Tensor], Result],
    *,
    device: torch.device,
    batch_size: int,
    title: str,
) -> Iterator[tuple[int, Result]]:
    """Yield, in order, the number of each batch's first item and what ``compute`` returns for the batch.

    Args:
        items: what ``prepare`` takes.
        prepare: reads an item as uint8 ``[size, size, 3]``, or views of it, ``[V, size, size, 3]``; called by several
            threads at once.
        compute: takes a batch on the CPU, ``[N, size, size, 3]`` or ``[N, V, size, size, 3]``; called without
            gradients, on the CPU by several threads at once, each of which computes a layer alone.
        device: where ``compute`` works.
        batch_size: items at once; fewer on the CPU, or where a GPU's memory is too small.
        title: of the progress bar.
    """

    @torch.inference_mode()
    def forward(batch: list[np.ndarray]) -> Result:
        return compute(torch.from_numpy(np.stack(batch)))

    bar = progress_bar(title, total=len(items), shown=rank() == 0)
    with bar, silence_pillow():
        batches = _forward_on_cpu if device.type == "cpu" else _forward_on_accelerator
        done = 0
        for result, count in batches(items, prepare, forward, batch_size):
            yield done, result
            done += count
            bar.update(count)


def effective_batch_size(device: torch.device, batch_size: int) -> int:
    """Return how many images are computed at once if ``batch_size`` are asked for, at least one."""
    return max(1, min(batch_size, _CPU_BATCH_SIZE) if device.type == "cpu" else batch_size)


def _forward_on_cpu(
    items: Sequence[Item],
    prepare: Callable[[Item], np.ndarray],
    forward: Callable[[list[np.ndarray]], Result],
    batch_size: int,
) -> Iterator[tuple[Result, int]]:
    size = effective_batch_size(torch.device("cpu"), batch_size)
    batches = (items[start : start + size] for start in range(0, len(items), size))

    def work(batch: Sequence[Item]) -> tuple[Result, int]:
        return forward([prepare(item) for item in batch]), len(batch)

    with _torch_threads() as threads:
        try:
            yield from _map_ahead(work, batches, threads, 2 * threads, lambda: torch.set_num_threads(1))
        finally:
            torch.set_num_threads(threads)  # for later threads: those of the pool have set it for them too


def _forward_on_accelerator(
    items: Sequence[Item],
    prepare: Callable[[Item], np.ndarray],
    forward: Callable[[list[np.ndarray]], Result],
    batch_size: int,
) -> Iterator[tuple[Result, int]]:
    most, batch = batch_size, list[np.ndarray]()
    with closing(_map_ahead(prepare, items, _READERS, 2 * batch_size)) as prepared:
        while batch := batch or list(islice(prepared, most)):
            part = batch[:most]
            try:
                yield forward(part), len(part)
                batch = batch[most:]
                continue
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
            most = len(part) // 2
            log.info("%d images at once do not fit on the GPU: trying %d", len(part), most)
            torch.cuda.empty_cache()


def _map_ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    ahead: int,
    initializer: Callable[[], object] | None = None,
) -> Generator[Result, None, None]:
    """Yield ``work`` of each item, in order, from threads that start at most ``ahead`` items before they are needed."""
    pool, rest = ThreadPoolExecutor(threads, initializer=initializer), iter(items)
    try:
        started = deque(pool.submit(work, item) for item in islice(rest, ahead))
        while started:
            result = started.popleft().result()
            started.extend(pool.submit(work, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


@SharedContext
@contextmanager
def _torch_threads() -> Iterator[int]:
    """Yield how many threads torch computes a layer with, before any call here has changed it."""
    yield torch.get_num_threads()
