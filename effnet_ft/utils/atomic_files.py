"""Atomic file writes: after a crash or a power cut, either the old file is there or the new one."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PARTIAL_SUFFIX = ".part"  # of a file that is being written; a killed process may leave one behind


@contextmanager
def atomic_write(path: Path, mode: str = "w", **how: Any) -> Iterator[IO[Any]]:
    """Open a file that atomically replaces ``path`` on success and is discarded if the block raises.

    ``mode`` is ``w`` (UTF-8) or ``wb``; ``how`` are further arguments of :func:`open`.
    """
    part = partial_path(path)
    try:
        with part.open(mode, encoding=None if "b" in mode else "utf-8", **how) as file:
            yield file
        atomic_replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str, **how: Any) -> None:
    """Atomically write ``text`` to ``path``."""
    with atomic_write(path, **how) as file:
        file.write(text)


def write_json(values: Mapping[str, object], path: Path) -> None:
    """Atomically write ``values`` as JSON."""
    atomic_write_text(path, json.dumps(values, indent=2) + "\n")


def partial_path(path: Path) -> Path:
    """Return the temporary name under which ``path`` is written."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


def atomic_replace(part: Path, path: Path) -> None:
    """Flush the finished file ``part`` to disk and rename it to ``path``, replacing any file there."""
    with part.open("r+b") as file:  # Windows can only flush files that are open for writing
        os.fsync(file.fileno())
    os.replace(part, path)
    with suppress(OSError):  # not all systems can flush the names in a folder
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def atomic_link(file: Path, path: Path) -> None:
    """Atomically make ``path`` a hard link to ``file``, or a copy where the file system has no hard links.

    Only for files that are never modified in place: a change would show under both names.
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


def remove_partial_files(*folders: Path) -> None:
    """Remove the partial files that killed processes left in ``folders``."""
    for folder in folders:
        for part in folder.glob(f"*{PARTIAL_SUFFIX}"):
            part.unlink(missing_ok=True)
