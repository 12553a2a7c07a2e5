"""The seed alone decides the order of an epoch; processes share its steps, and no image is lost or comes twice."""

from __future__ import annotations

import numpy as np
import pytest

from effnet_ft.data.sampling import DistributedBatchSampler, EpochSampler, evaluation_batches


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 32])
def test_no_batch_holds_a_single_image(batch_size: int) -> None:
    for length in range(1, 70):
        batches = DistributedBatchSampler(EpochSampler(length, (0,)), batch_size)
        shown = list(batches)
        assert len(shown) == len(batches)
        assert sorted(item for batch in shown for item in batch) == list(range(length))
        assert all(len(batch) == batch_size for batch in shown[:-1])
        assert len(shown[-1]) <= batch_size + 1
        assert 1 not in map(len, shown) or batch_size == 1 or length == 1


@pytest.mark.parametrize("processes", [2, 3, 4, 8])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_processes_share_the_steps_of_one_with_their_batch(batch_size: int, processes: int) -> None:
    for length in range(2 * processes, 70):
        sampler = EpochSampler(length, (0,))
        shares = [list(DistributedBatchSampler(sampler, batch_size, (rank, processes))) for rank in range(processes)]
        steps = list(zip(*shares, strict=True))
        assert len(steps) == len(DistributedBatchSampler(sampler, batch_size, (0, processes)))
        ends = [number * batch_size * processes for number in range(len(steps))]
        order = list(sampler)
        for start, end, step in zip(ends, [*ends[1:], length], steps, strict=True):
            assert sorted(item for batch in step for item in batch) == sorted(order[start:end])
        sizes = [[len(batch) for batch in step] for step in steps]
        assert all(set(step) == {batch_size} for step in sizes[:-1])
        assert max(sizes[-1]) - min(sizes[-1]) <= 1, "an image comes twice, or a process has too few"
        assert min(sizes[-1]) >= min(2, batch_size)


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_processes_share_an_evaluation_without_repeating(batch_size: int, processes: int) -> None:
    for length in range(processes, 70):
        shares = [evaluation_batches(length, batch_size, (rank, processes)) for rank in range(processes)]
        assert [index for share in shares for batch in share for index in batch] == list(range(length))
        assert len({len(share) for share in shares}) == 1, "a process would wait for a batch that never comes"
        sizes = [len(batch) for share in shares for batch in share]
        assert min(sizes) >= 1 and max(sizes) <= batch_size + 1


def test_orders_differ_between_epochs_and_seeds() -> None:
    def order(seed: tuple[int, ...], epoch: int) -> tuple[int, ...]:
        sampler = EpochSampler(50, seed)
        sampler.set_epoch(epoch)
        return tuple(np.array(list(sampler)) - 50 * epoch)

    assert order((1, 0), 0) == order((1, 0), 0)
    assert len({order(seed, epoch) for seed in ((0, 0), (0, 1), (1, 0), (1, 1)) for epoch in range(4)}) == 16
