"""Contexts of the whole process, such as its warnings, that several threads may be in at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SharedContext(Generic[Value]):
    """A context that the first thread to come enters and the last one to go leaves.

    Were each thread to enter it, one that came while another was inside would, when it goes, restore what that other
    had set.

    Args:
        make: returns the context to enter.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Value]]) -> None:
        self._make = make
        self._lock = threading.RLock()  # what is collected while it is held may leave a context of its own
        self._inside = 0

    @contextmanager
    def __call__(self) -> Iterator[Value]:
        """Be inside; gives what the context gave to the first."""
        with self._lock:
            if self._inside == 0:
                self._context = self._make()
                self._value = self._context.__enter__()
            self._inside += 1
        try:
            yield self._value
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._context.__exit__(None, None, None)
