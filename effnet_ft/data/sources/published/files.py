"""The files of a published set: downloaded, checked by hash and unpacked, each atomically."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from effnet_ft.data.sources.published.table import PublishedSet, RemoteFile
from effnet_ft.errors import DataError, MachineError, is_disk_full
from effnet_ft.utils.downloads import download as fetch
from effnet_ft.utils.text import listing

log = logging.getLogger(__name__)


def ensure_files(published: PublishedSet, base: Path, files: Sequence[RemoteFile], download: bool) -> None:
    """Download and unpack what is missing.

    Raises:
        DataError: if that fails, with which files to put where.
        MachineError: if the disk is full.
    """
    missing = [file for file in files if not file.is_ready(base) and not (base / file.name).is_file()]
    if missing and published.offline:
        raise DataError(
            f"{published.title} can no longer be downloaded: {_instructions(base, missing, 'it came from')}"
        )
    if missing and not download:
        raise DataError(
            f"{published.title} is not complete in {base} and data.download is off: set data.download=on, or "
            f"{_instructions(base, missing)}"
        )
    try:
        base.mkdir(parents=True, exist_ok=True)
        with folder_lock(base, published.reader):
            for file in missing:
                if not file.is_ready(base) and not (base / file.name).is_file():
                    log.info("%s: downloading %s", published.title, file.url)
                    _download(file, base)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        kind = MachineError if is_disk_full(error) else DataError
        instructions = _instructions(base, missing)
        raise kind(f"cannot download {published.title}: {error}\nTry again, or {instructions}") from error
    with folder_lock(base, published.reader):
        for file in files:
            if not file.is_ready(base):
                log.info("%s: checking and unpacking %s", published.title, file.name)
                _unpack(file, base)


@contextmanager
def folder_lock(base: Path, name: str) -> Iterator[None]:
    """Lock ``base``, so that of several processes one does the work and the others find it done."""
    from filelock import FileLock

    lock = FileLock(base / f".{name}.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise MachineError(f"cannot write to {base}: {error}") from error
    try:
        yield
    finally:
        lock.release()


def check_hashes(base: Path, files: Sequence[RemoteFile]) -> None:
    """Check the files whose hashes are known.

    Raises:
        DataError: naming the file that differs and what to do.
    """
    for file in files:
        if not file.folder and (fault := _fault(base / file.name, file.md5)):
            raise DataError(f"{base / file.name} {fault}; {_download_again(file)}")
        for name, md5 in (file.contents or {}).items():
            if fault := _fault(base / file.folder / name, md5):
                again = f"remove the folder {base / file.folder}, so that {file.name} is unpacked again"
                raise DataError(f"{base / file.folder / name} {fault}; {again}")


def _instructions(base: Path, files: Sequence[RemoteFile], origin: str = "from") -> str:
    lines = [
        f"{file.name}, {origin} {file.url}" + (f" (or its unpacked folder {file.folder}/)" if file.folder else "")
        for file in files
    ]
    return f"put into {base}\n{listing(lines)}"


def _download_again(file: RemoteFile) -> str:
    return f"remove it and download it again from {file.url}"


def _download(file: RemoteFile, base: Path) -> None:
    """Download ``file``, check it, then rename it into place."""
    part = base / f"{file.name}.part"
    fetch(file.url, part, file.name)
    if fault := _fault(part, file.md5):
        part.unlink()  # or the next attempt would resume the wrong file
        raise ValueError(f"what {file.url} sent {fault}")
    os.replace(part, base / file.name)


def _fault(path: Path, md5: str) -> str:
    """Return what is wrong with a file, or an empty string."""
    from torchvision.datasets.utils import calculate_md5

    if not path.is_file():
        return "is missing"
    found = calculate_md5(path)
    return "" if found == md5 else f"is cut short, damaged or another file: its MD5 is {found}, not {md5}"


def _unpack(file: RemoteFile, base: Path) -> None:
    """Unpack an archive, then rename its folder into place."""
    archive, temporary = base / file.name, base / f".{file.folder}.part"
    if fault := _fault(archive, file.md5):
        raise DataError(f"{archive} {fault}; {_download_again(file)}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.unpack_archive(archive, temporary, filter="data")  # nothing outside it, no devices, no odd permissions
        os.replace(temporary / file.folder, base / file.folder)
    except Exception as error:  # tarfile, gzip and zlib raise many kinds
        kind = MachineError if is_disk_full(error) else DataError
        raise kind(f"cannot unpack {archive} into {base}: {error or type(error).__name__}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
