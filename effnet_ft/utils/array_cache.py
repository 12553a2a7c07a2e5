"""A disk cache of computed arrays: ``.npy`` files, written atomically and verified by checksum. Free of torch."""

import hashlib
import json
import os
import platform
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from effnet_ft.utils.machine_resources import memory_left

FOLDER_VARIABLE = "EFFNET_FT_CACHE"  # environment variable: the folder, else ``effnet_ft`` in the user's cache folder


def cache_folder() -> Path:
    """Return the cache folder; it need not exist yet."""
    default = f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/effnet_ft"
    return Path(os.environ.get(FOLDER_VARIABLE) or default).expanduser()


@dataclass(frozen=True)
class Entry:
    """A cached array."""

    key: str
    about: str  # a description for people
    size: int  # bytes on disk
    used: float  # last read or written, seconds since 1970


class ArrayCache:
    """Arrays by key in ``folder``, by default :func:`cache_folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    def open(self, key: str, checked: bool = True) -> np.ndarray | None:
        """Return the array of ``key``, memory-mapped read-only; None if it is missing, or damaged and so removed.

        ``checked`` verifies the checksum, which reads the whole file; not needed if another rank just did so.
        """
        path, metadata = self._files(key)
        try:
            checksum = json.loads(metadata.read_text())["crc32"]
            if checked and checksum != _crc32(path):
                raise ValueError("wrong checksum")
            array = np.load(path, mmap_mode="r")
            with suppress(OSError):  # a shared cache may be read-only
                os.utime(path)
        except (OSError, ValueError, KeyError, TypeError):
            if path.exists():  # metadata alone: another process is about to rename its array into place
                self._remove(key)
            return None
        return array

    @contextmanager
    def create(self, key: str, shape: tuple[int, ...], dtype: np.dtype | type, about: str) -> Iterator[np.ndarray]:
        """Yield an array to fill; it is stored under ``key`` on success and discarded if the block raises."""
        path, metadata = self._files(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_orphans()
        part = path.with_name(f"{key}.{_process()}.{uuid.uuid4().hex}.npy.part")  # others may fill the same key
        try:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            array = np.lib.format.open_memmap(part, "w+", dtype, shape)
            if hasattr(os, "posix_fallocate"):  # a full disk raises here instead of SIGBUS at a later page write
                with part.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
            yield array
            array.flush()
            metadata.write_text(json.dumps({"about": about, "crc32": _crc32(part)}))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def store_text(self, key: str, text: str) -> None:
        """Store a short, non-empty text; does nothing if the folder cannot be written."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{key}.{uuid.uuid4().hex}.npy.part"
            part.write_text(text)
            os.replace(part, self.folder / f"{key}.noted")

    def stored_text(self, key: str) -> str:
        """Return the text of ``key``, empty if there is none."""
        try:
            return (self.folder / f"{key}.noted").read_text()
        except OSError:
            return ""

    def lock(self, name: str) -> FileLock:
        """Return a lock that excludes other processes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f".{name}.lock")

    def entries(self) -> list[Entry]:
        """Return all cached arrays, the least recently used first."""
        found = []
        for path in self.folder.glob("*.npy"):
            try:
                about, stat = json.loads(path.with_suffix(".json").read_text())["about"], path.stat()
            except (OSError, ValueError, KeyError, TypeError):
                continue
            found.append(Entry(path.stem, about, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda entry: entry.used)

    def evict(self, limit: int, keep: set[str]) -> None:
        """Remove the least recently used arrays, but none in ``keep``, until the rest takes at most ``limit`` bytes."""
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total > limit and entry.key not in keep:
                self._remove(entry.key)
                total -= entry.size

    def half_of_free_disk(self) -> int:
        """Return half of the free disk space and the cache's own size, bytes."""
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        return (shutil.disk_usage(existing).free + sum(entry.size for entry in self.entries())) // 2

    def clear(self) -> None:
        """Remove every array, text and lock, and the partial files of interrupted processes."""
        for pattern in ("*.npy", "*.json", "*.npy.part", "*.noted", ".*.lock"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Remove the partial files of killed processes of this machine."""
        if os.name != "posix":  # elsewhere os.kill(pid, 0) would end the process
            return
        for part in self.folder.glob(f"*.{_machine()}-*.npy.part"):
            try:
                os.kill(int(part.name.split(".")[1].rpartition("-")[2]), 0)
            except ProcessLookupError:
                part.unlink(missing_ok=True)
            except (ValueError, PermissionError):  # not ours; another user's process
                pass

    def _files(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.npy", self.folder / f"{key}.json"

    def _remove(self, key: str) -> None:
        for path in self._files(key):
            path.unlink(missing_ok=True)


def half_of_free_memory() -> int:
    """Return half of the available memory, bytes; 1 GB if the system does not say."""
    try:
        return memory_left() // 2
    except OSError:
        return 10**9


def file_stats(paths: Iterable[Path]) -> list[tuple[str, int, int, int, int]]:
    """Return path, size, inode, modification and change time of files, to notice changes without reading them.

    Two files that change places keep their size and modification time, but not inode and change time.
    """
    stats = []
    for path in paths:
        try:
            stat = path.stat()
            stats.append((str(path.absolute()), stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))
        except OSError:  # whoever reads the file reports it
            stats.append((str(path), -1, -1, -1, -1))
    return stats


def array_key(**facts: object) -> str:
    """Return a hash of ``facts``, plain values, as the key of an array that depends on nothing else."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _machine() -> str:
    """Return a short name of this machine, for files in a folder that several machines share."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _process() -> str:
    return f"{_machine()}-{os.getpid()}"


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
