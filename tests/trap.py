"""A pickle that does harm, for tests that nothing is unpickled that should not be."""

from __future__ import annotations

from pathlib import Path


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)
