"""Computed arrays kept between runs: a folder of ``.npy`` files, each whole or not there. Free of torch."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from effnet_ft.utils.machine_resources import memory_left

FOLDER_VARIABLE = "EFFNET_FT_CACHE"
"""Environment variable that names another folder than ``effnet_ft`` in the user's cache folder."""

_CHUNK_BYTES = 1 << 24


def cache_folder() -> Path:
    """Return the folder of computed arrays; it need not exist yet."""
    own = os.environ.get(FOLDER_VARIABLE)
    everyones = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(own or f"{everyones}/effnet_ft").expanduser()


@dataclass(frozen=True)
class Entry:
    """A kept array.

    Attributes:
        key: its name.
        about: what it is, for people.
        size: of its file, bytes.
        used: when it was last read or written, seconds since 1970.
    """

    key: str
    about: str
    size: int
    used: float


class ArrayCache:
    """Arrays by key, checked by a checksum when they are opened.

    Args:
        folder: where they are kept; None takes :func:`cache_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    def open(self, key: str, checked: bool = True) -> np.ndarray | None:
        """Return the array of ``key``, mapped from its file; None where it is missing. A damaged one is removed.

        Args:
            key: its name.
            checked: read the file once and compare its checksum; another process of the run may just have done so.
        """
        array, note = self._files(key)
        try:
            checksum = json.loads(note.read_text())["crc32"]
            if checked and checksum != _crc32(array):
                raise ValueError("its checksum is wrong")
            opened = np.load(array, mmap_mode="r")
            with suppress(OSError):  # a folder that others fill may be read only
                os.utime(array)
        except (OSError, ValueError, KeyError, TypeError):
            if array.exists():  # a note alone is another process's, whose array is about to come
                self._remove(key)
            return None
        return opened

    @contextmanager
    def create(self, key: str, shape: tuple[int, ...], dtype: np.dtype | type, about: str) -> Iterator[np.ndarray]:
        """Give an array to fill; it is kept under ``key`` when the block ends, and forgotten where it fails.

        Raises:
            OSError: where the disk is full or cannot be written.
        """
        array, note = self._files(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_orphans()
        part = array.with_name(f"{key}.{_process()}.{uuid.uuid4().hex}.npy.part")  # others may fill the same key
        try:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            filling = np.lib.format.open_memmap(part, "w+", dtype, shape)
            if hasattr(os, "posix_fallocate"):  # a full disk is told now, not by a signal when a page is written
                with part.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
            yield filling
            filling.flush()
            note.write_text(json.dumps({"about": about, "crc32": _crc32(part)}))
            os.replace(part, array)
        finally:
            part.unlink(missing_ok=True)

    def note(self, key: str, text: str) -> None:
        """Remember ``text``, short and not empty; where the folder cannot be written, nothing is remembered."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{key}.{uuid.uuid4().hex}.npy.part"
            part.write_text(text)
            os.replace(part, self.folder / f"{key}.noted")

    def recall(self, key: str) -> str:
        """Return what :meth:`note` was given for ``key``, an empty text where nothing was."""
        try:
            return (self.folder / f"{key}.noted").read_text()
        except OSError:
            return ""

    def lock(self, name: str) -> FileLock:
        """Return a lock that one process at a time can hold."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f".{name}.lock")

    def entries(self) -> list[Entry]:
        """Return what is kept, the least recently used first."""
        found = []
        for path in self.folder.glob("*.npy"):
            try:
                about, stat = json.loads(path.with_suffix(".json").read_text())["about"], path.stat()
            except (OSError, ValueError, KeyError, TypeError):
                continue
            found.append(Entry(path.stem, about, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda entry: entry.used)

    def make_room(self, limit: int, spare: set[str]) -> None:
        """Remove the least recently used arrays until all take at most ``limit`` bytes; never those in ``spare``."""
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total > limit and entry.key not in spare:
                self._remove(entry.key)
                total -= entry.size

    def half_of_free_disk(self) -> int:
        """Return half of what the disk has free and these arrays take, bytes."""
        place = self.folder
        while not place.exists():
            place = place.parent
        return (shutil.disk_usage(place).free + sum(entry.size for entry in self.entries())) // 2

    def clear(self) -> None:
        """Remove every array, and what interrupted processes left."""
        for pattern in ("*.npy", "*.json", "*.npy.part", "*.noted", ".*.lock"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Remove what killed processes of this machine left half filled."""
        if os.name != "posix":  # where no process can be asked for without a signal to it
            return
        for part in self.folder.glob(f"*.{_machine()}-*.npy.part"):
            number = part.name.split(".")[1].rpartition("-")[2]
            if number.isdigit() and not _lives(int(number)):
                part.unlink(missing_ok=True)

    def _files(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.npy", self.folder / f"{key}.json"

    def _remove(self, key: str) -> None:
        for path in self._files(key):
            path.unlink(missing_ok=True)


def half_of_free_memory() -> int:
    """Return half of the memory that programs could take now, bytes; half of 2 GB where the system does not tell."""
    try:
        return memory_left() // 2
    except OSError:
        return 10**9


def file_stats(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return path, size and time of change of files, by which a changed one is known without reading it."""
    states = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:  # told by whoever reads it
            states.append((str(path), -1, -1))
        else:
            states.append((str(path.absolute()), stat.st_size, stat.st_mtime_ns))
    return states


def array_key(**facts: object) -> str:
    """Return the key of an array that depends on ``facts``, plain values, and on nothing else."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def age(seconds: float) -> str:
    """Return how long ago a moment was, in words."""
    hours = (time.time() - seconds) / 3600
    return f"{hours:.0f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"


def _machine() -> str:
    """Return a name of this machine for files that other machines may see."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _process() -> str:
    return f"{_machine()}-{os.getpid()}"


def _lives(number: int) -> bool:
    """Return whether a process of this machine has ``number``."""
    with suppress(PermissionError):  # another user's
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return False
    return True


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
