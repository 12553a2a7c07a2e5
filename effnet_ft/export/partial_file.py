"""Files are written aside and take their name only when they are whole and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from effnet_ft.errors import WeightsError


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; what still bears it in the end is removed."""
    temporary = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming_file_on_error(path: Path) -> Iterator[None]:
    """Say of a disk that fails which file could not be written."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise WeightsError(f"cannot write '{path}': {error}") from error
