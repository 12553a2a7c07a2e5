"""Files written whole: whatever stops the program or the machine, the old file is there or the new one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PARTIAL_SUFFIX = ".part"
"""Ends the name of a file that is being written. Where a process was killed it stays, and is worth nothing."""


@contextmanager
def atomic_write(path: Path, mode: str = "w", **how: Any) -> Iterator[IO[Any]]:
    """Give a file to write; it takes the place of ``path`` when the block ends, and is gone where the block fails.

    Args:
        path: of the file.
        mode: ``w`` or ``wb``.
        how: as of :func:`open`; text is UTF-8.
    """
    part = partial_path(path)
    encoding = {} if "b" in mode else {"encoding": "utf-8"}
    try:
        with part.open(mode, **{**encoding, **how}) as file:
            yield file
        atomic_replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str, **how: Any) -> None:
    """Write ``text`` to ``path``, as :func:`atomic_write` does."""
    with atomic_write(path, **how) as file:
        file.write(text)


def write_json(values: Mapping[str, object], path: Path) -> None:
    """Write ``values`` as JSON, atomically."""
    atomic_write_text(path, json.dumps(values, indent=2) + "\n")


def partial_path(path: Path) -> Path:
    """Return where ``path`` is written before it takes its name."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


def atomic_replace(part: Path, path: Path) -> None:
    """Give the finished file ``part`` its name, once the disk has all of it; what had the name before is gone."""
    with part.open("r+b") as file:  # Windows forces to the disk only what may be written
        os.fsync(file.fileno())
    os.replace(part, path)
    fsync_folder(path.parent)


def atomic_link(file: Path, path: Path) -> None:
    """Give a finished file a second name as well, or that name to a copy of it where the disk knows no hard links.

    Only for files that are replaced, never changed in place: what changed the one would change the other.
    """
    part = partial_path(path)
    part.unlink(missing_ok=True)
    try:
        try:
            os.link(file, part)
        except OSError:
            shutil.copyfile(file, part)
        atomic_replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Wait until the disk has the names in ``folder``; systems that cannot tell do not wait."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def remove_partial_files(*folders: Path) -> None:
    """Remove what killed processes left unfinished in ``folders``."""
    for folder in folders:
        for part in folder.glob(f"*{PARTIAL_SUFFIX}"):
            part.unlink(missing_ok=True)
