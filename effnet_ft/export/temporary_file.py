"""Writes an export to a temporary file that is renamed once it is checked."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from effnet_ft.errors import MachineError


@contextmanager
def checked_file(path: Path, write: Callable[[Path], None]) -> Iterator[Path]:
    """Write a temporary file beside ``path`` and yield it to be checked; then rename it, or remove it after an error.

    Raises:
        MachineError: if it cannot be written.
    """
    temporary = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        with _naming_file(path):
            write(temporary)
        yield temporary
        with _naming_file(path):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming_file(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise MachineError(f"cannot write '{path}': {error}") from error
