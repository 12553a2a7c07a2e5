"""Temporary files that are renamed once they are complete and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from effnet_ft.errors import MachineError


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with its suffix; remove what is still there afterwards."""
    temporary = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming_file_on_error(path: Path) -> Iterator[None]:
    """Name ``path`` in errors of writing it.

    Raises:
        MachineError: if the disk fails.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise MachineError(f"cannot write '{path}': {error}") from error
