"""The files of a published set: downloaded, checked by hash and unpacked, each atomically."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from effnet_ft.data.sources.published.table import PublishedSet, RemoteFile
from effnet_ft.errors import DataError, MachineError, is_disk_full
from effnet_ft.utils.downloads import download
from effnet_ft.utils.text import listing

log = logging.getLogger(__name__)


def ensure_files(published: PublishedSet, base: Path, files: Sequence[RemoteFile], may_download: bool) -> None:
    """Download and unpack what is missing, and check the files whose hashes are known.

    Raises:
        DataError: if that fails or a file is damaged, with what to put where.
        MachineError: if the disk is full or cannot be written.
    """
    missing = [file for file in files if not file.is_ready(base) and not (base / file.name).is_file()]
    if missing and published.offline:
        what = _instructions(base, missing, "it came from")
        raise DataError(f"{published.title} can no longer be downloaded: {what}")
    if missing and not may_download:
        raise DataError(
            f"{published.title} is not complete in {base} and data.download is off: set data.download=on, or "
            f"{_instructions(base, missing)}"
        )
    if not all(file.is_ready(base) for file in files):
        with folder_lock(base):
            for file in missing:
                _download(file, base, published, missing)
            for file in files:
                _unpack(file, base)
    for file in files:
        if not file.folder:
            _check(base / file.name, file.md5, _download_again(file))
        for name, md5 in (file.contents or {}).items():
            again = f"remove the folder {base / file.folder}, so that {file.name} is unpacked again"
            _check(base / file.folder / name, md5, again)


@contextmanager
def folder_lock(base: Path) -> Iterator[None]:
    """Lock ``base``, so that of several processes one does the work and the others find it done."""
    from filelock import FileLock

    try:
        base.mkdir(parents=True, exist_ok=True)
        lock = FileLock(base / ".published.lock").acquire()
    except OSError as error:
        raise MachineError(f"cannot write to {base}: {error}") from error
    with lock:
        yield


def _instructions(base: Path, files: Sequence[RemoteFile], origin: str = "from") -> str:
    lines = [
        f"{file.name}, {origin} {file.url}" + (f" (or its unpacked folder {file.folder}/)" if file.folder else "")
        for file in files
    ]
    return f"put into {base}\n{listing(lines)}"


def _download_again(file: RemoteFile) -> str:
    return f"remove it and download it again from {file.url}"


def _download(file: RemoteFile, base: Path, published: PublishedSet, missing: Sequence[RemoteFile]) -> None:
    """Download ``file`` unless another process has, check it, then rename it into place."""
    if file.is_ready(base) or (base / file.name).is_file():
        return
    log.info("%s: downloading %s", published.title, file.url)
    part = base / f"{file.name}.part"
    try:
        download(file.url, part, file.name)
        if fault := _fault(part, file.md5):
            part.unlink()  # or the next attempt would resume the wrong file
            raise ValueError(f"what {file.url} sent {fault}")
        os.replace(part, base / file.name)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        kind = MachineError if is_disk_full(error) else DataError
        instructions = _instructions(base, missing)
        raise kind(f"cannot download {published.title}: {error}\nTry again, or {instructions}") from error


def _check(path: Path, md5: str, remedy: str) -> None:
    if fault := _fault(path, md5):
        raise DataError(f"{path} {fault}; {remedy}")


def _fault(path: Path, md5: str) -> str:
    """Return what is wrong with a file, or an empty string."""
    from torchvision.datasets.utils import calculate_md5

    if not path.is_file():
        return "is missing"
    found = calculate_md5(path)
    return "" if found == md5 else f"is cut short, damaged or another file: its MD5 is {found}, not {md5}"


def _unpack(file: RemoteFile, base: Path) -> None:
    """Unpack an archive unless that is done, then rename its folder into place."""
    archive, temporary = base / file.name, base / f".{file.folder}.part"
    if file.is_ready(base):
        return
    log.info("checking and unpacking %s", archive)
    _check(archive, file.md5, _download_again(file))
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.unpack_archive(archive, temporary, filter="data")  # nothing outside it, no devices, no odd permissions
        os.replace(temporary / file.folder, base / file.folder)
    except Exception as error:  # tarfile, gzip and zlib raise many kinds
        kind = MachineError if is_disk_full(error) else DataError
        raise kind(f"cannot unpack {archive} into {base}: {error or type(error).__name__}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
