"""Every item is answered once and in order, on every core, and faults come through."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from effnet_ft.activations.batched_forward import forward_images
from effnet_ft.errors import DataError

CPU, DEVICE = torch.device("cpu"), torch.device("meta")  # whatever is no CPU takes the path of accelerators


def views_of(item: int) -> np.ndarray:
    return np.full((2, 4, 4, 3), item, np.uint8)


@pytest.mark.parametrize("device", [CPU, DEVICE])
@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (1, 4), (23, 1), (23, 4), (23, 100)])
def test_items_are_answered_once_and_in_order(count: int, batch_size: int, device: torch.device) -> None:
    def compute(batch: Tensor) -> list[int]:
        assert torch.is_inference_mode_enabled() and len(batch) <= batch_size
        return batch[:, 0, 0, 0, 0].tolist()

    found = list(forward_images(range(count), views_of, compute, device=device, batch_size=batch_size, title=""))
    assert [value for _, answer in found for value in answer] == list(range(count))
    assert [start for start, _ in found] == np.cumsum([0, *(len(answer) for _, answer in found)])[:-1].tolist()


@pytest.mark.parametrize("room", [1, 3, 100])
def test_a_gpu_without_room_for_a_batch_is_given_parts_of_it(room: int) -> None:
    tried = []

    def compute(batch: Tensor) -> list[int]:
        tried.append(len(batch))
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch[:, 0, 0, 0, 0].tolist()

    found = list(forward_images(range(23), views_of, compute, device=DEVICE, batch_size=8, title=""))
    assert [value for _, answer in found for value in answer] == list(range(23))
    assert [start for start, _ in found] == np.cumsum([0, *(len(answer) for _, answer in found)])[:-1].tolist()
    assert sum(size > room for size in tried) <= 3, "what does not fit is not tried for every batch again"


def test_where_not_even_one_image_fits() -> None:
    def compute(batch: Tensor) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(forward_images(range(23), views_of, compute, device=DEVICE, batch_size=8, title=""))


@pytest.mark.parametrize("device", [CPU, DEVICE])
def test_a_fault_comes_through_and_leaves_no_thread(device: torch.device) -> None:
    def prepare(item: int) -> np.ndarray:
        if item == 13:
            raise DataError("cannot read the image 13.jpg")
        return views_of(item)

    before, threads = threading.active_count(), torch.get_num_threads()
    with pytest.raises(DataError, match=r"13\.jpg"):
        list(forward_images(range(1000), prepare, len, device=device, batch_size=4, title=""))
    assert threading.active_count() == before and torch.get_num_threads() == threads


def test_on_the_cpu_several_threads_compute_each_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    own: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", own.append)
    meeting = threading.Barrier(3, timeout=20)  # only three at once get past

    def compute(batch: Tensor) -> int:
        meeting.wait()
        return len(batch)

    list(forward_images(range(6), views_of, compute, device=CPU, batch_size=1, title=""))
    assert own == [1, 1, 1, 3]
