"""Process-wide contexts, such as warning filters, that several threads may use at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SharedContext(Generic[Value]):
    """Enters the context from ``make`` with the first thread and exits it with the last.

    If each thread entered its own, one that exits first would restore a setting that another still needs.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Value]]) -> None:
        self._make = make
        self._lock = threading.RLock()  # reentrant: garbage collected under the lock may exit a context too
        self._users = 0

    @contextmanager
    def __call__(self) -> Iterator[Value]:
        """Yield the value of the shared context."""
        with self._lock:
            if self._users == 0:
                self._context = self._make()
                self._value = self._context.__enter__()
            self._users += 1
        try:
            yield self._value
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._context.__exit__(None, None, None)
