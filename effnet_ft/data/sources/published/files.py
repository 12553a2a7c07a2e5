"""The files of a published set: downloaded, checked by their hashes, and unpacked, each whole or not at all."""

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


def ensure_files(published: PublishedSet, base: Path, pieces: Sequence[RemoteFile], download: bool) -> None:
    """Download and unpack what is not there.

    Raises:
        DataError: where that cannot be done, with which files to put where.
        MachineError: where the disk is full.
    """
    away = [piece for piece in pieces if not piece.lies_in(base) and not (base / piece.file).is_file()]
    if away and published.gone:
        raise DataError(f"{published.title} can no longer be downloaded: {_wanted(base, away, 'it came from')}")
    if away and not download:
        why = f"{published.title} is not whole in {base} and data.download is off: set data.download=on, or "
        raise DataError(why + _wanted(base, away))
    try:
        base.mkdir(parents=True, exist_ok=True)
        with exclusive(base, published.kind):
            for piece in away:
                if not piece.lies_in(base) and not (base / piece.file).is_file():
                    log.info("%s: downloading %s", published.title, piece.address)
                    _download(piece, base)
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        kind = MachineError if is_disk_full(error) else DataError
        raise kind(f"cannot download {published.title}: {error}\nTry again, or {_wanted(base, away)}") from error
    with exclusive(base, published.kind):
        for piece in pieces:
            if not piece.lies_in(base):
                log.info("%s: checking and unpacking %s", published.title, piece.file)
                _unpack(piece, base)


@contextmanager
def exclusive(base: Path, name: str) -> Iterator[None]:
    """Hold a lock, for processes that begin together: one of them does the work and the others find it done."""
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


def _wanted(base: Path, pieces: Sequence[RemoteFile], origin: str = "from") -> str:
    lines = [
        f"{piece.file}, {origin} {piece.address}"
        + (f" (or the folder {piece.folder}/ that it unpacks to)" if piece.folder else "")
        for piece in pieces
    ]
    return f"put into {base}\n{listing(lines)}"


def _download(piece: RemoteFile, base: Path) -> None:
    """Download ``piece``; under its own name it appears whole and right or not at all."""
    part = base / f"{piece.file}.part"
    fetch(piece.address, part, piece.file)
    if fault := _fault(part, piece.md5):
        part.unlink()  # else the next attempt would take up what is wrong already
        raise ValueError(f"what {piece.address} sent {fault}")
    os.replace(part, base / piece.file)


def _fault(path: Path, md5: str) -> str:
    """Return what is wrong with a file, an empty text where nothing is."""
    from torchvision.datasets.utils import calculate_md5

    if not path.is_file():
        return "is missing"
    found = calculate_md5(path)
    return "" if found == md5 else f"is cut short, damaged or another file: its MD5 is {found}, not {md5}"


def _unpack(piece: RemoteFile, base: Path) -> None:
    """Unpack an archive; its folder appears whole or not at all."""
    archive, temporary = base / piece.file, base / f".{piece.folder}.part"
    if fault := _fault(archive, piece.md5):
        raise DataError(f"{archive} {fault}; remove it and get it again from {piece.address}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.unpack_archive(archive, temporary, filter="data")  # nothing outside of it, no devices, no odd rights
        os.replace(temporary / piece.folder, base / piece.folder)
    except Exception as error:  # tarfile, gzip and zlib raise many kinds
        kind = MachineError if is_disk_full(error) else DataError
        raise kind(f"cannot unpack {archive} into {base}: {error or type(error).__name__}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check(published: PublishedSet, base: Path, pieces: Sequence[RemoteFile]) -> None:
    """Refuse files whose hashes are known and others.

    Raises:
        DataError: naming the file and what to do.
    """
    for piece in pieces:
        if not piece.folder and (fault := _fault(base / piece.file, piece.md5)):
            raise DataError(f"{base / piece.file} {fault}; remove it and get it again from {piece.address}")
        for name, md5 in (piece.holds or {}).items():
            if fault := _fault(base / piece.folder / name, md5):
                raise DataError(f"{base / piece.folder / name} {fault}; {_unpack_again(base, piece)}")


def _unpack_again(base: Path, piece: RemoteFile) -> str:
    return f"remove the folder {base / piece.folder}, so that {piece.file} is unpacked again"
