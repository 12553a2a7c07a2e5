"""Process-wide settings are restored when the last of several overlapping calls ends."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch

from effnet_ft.activations.batched_forward import forward_images
from effnet_ft.data.images.decoding import silence_pillow
from effnet_ft.utils.shared_context import SharedContext


def test_the_first_enters_and_the_last_leaves() -> None:
    happened: list[str] = []

    @SharedContext
    @contextmanager
    def context() -> Iterator[int]:
        happened.append("in")
        yield len(happened)
        happened.append("out")

    first, second = ExitStack(), ExitStack()
    assert first.enter_context(context()) == second.enter_context(context()) == 1
    first.close()
    assert happened == ["in"]
    with pytest.raises(KeyError), second:
        raise KeyError  # a fault inside leaves it too
    assert happened == ["in", "out"]
    with context() as value:
        assert value == 3, "entered again"


def test_warnings_are_as_before_whoever_leaves_last() -> None:
    before = list(warnings.filters)
    first, second = ExitStack(), ExitStack()
    first.enter_context(silence_pillow())
    second.enter_context(silence_pillow())
    first.close()
    second.close()
    assert list(warnings.filters) == before


def test_two_calls_at_once_leave_torchs_threads_as_they_were() -> None:
    def image(_: int) -> np.ndarray:
        return np.zeros((2, 2, 3), np.uint8)

    def threads_here(_: object = None) -> int:
        return torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        # Three threads of a server: two calls of which the first begins and ends first, and one to come.
        with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second, ThreadPoolExecutor(1) as later:
            callers, inside = (first, second), list[int]()
            calls = [
                forward_images(range(4), image, threads_here, device=torch.device("cpu"), batch_size=1, title="")
                for _ in callers
            ]
            for step in (next, list):
                for caller, call in zip(callers, calls, strict=True):
                    found = caller.submit(step, call).result()
                    inside += [count for _, count in found] if isinstance(found, list) else [found[1]]
            assert inside == [1] * 8, "each thread of a call computes a layer alone"
            assert [some.submit(threads_here).result() for some in (*callers, later)] == [3, 3, 3]
        assert threads_here() == 3
    finally:
        torch.set_num_threads(before)
