"""Downloads a file over a connection that may be cut: what has come is kept and taken up again."""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from effnet_ft.utils.progress import progress_bar

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 20


def download(address: str, part: Path, title: str) -> None:
    """Download ``address`` to ``part``, after what is there already; a cut connection is taken up again.

    Whether the whole is right, the caller's hash must tell: what was there may have been another file's.

    Args:
        address: of the file.
        part: where it is written; what has come stays there after an error.
        title: for the progress bar.

    Raises:
        OSError: where the server has no such file or cannot be reached, or the disk is full.
        HTTPException: where it answers nonsense.
        ValueError: where the address is malformed.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _append(address, part, title)
        except HTTPError:
            raise
        except (OSError, HTTPException):
            if attempt == _ATTEMPTS:
                raise


def _append(address: str, part: Path, title: str) -> None:
    here = part.stat().st_size if part.exists() else 0
    request = Request(address, headers={"User-Agent": "effnet_ft", **({"Range": f"bytes={here}-"} if here else {})})
    try:
        answer = urlopen(request, timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        if here and error.code == 416:  # nothing is left to send: it is whole, or another file's; the hash will tell
            return
        raise
    with answer:
        if answer.status != 206:
            here = 0  # the server sends it from the beginning
        left = answer.headers.get("Content-Length")
        total = here + int(left) if left else None
        bar = progress_bar(title, total=total, initial=here, unit="B")
        with part.open("ab" if here else "wb") as file, bar:
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and part.stat().st_size < total:
            raise ConnectionError(f"the connection was cut after {part.stat().st_size:,} of {total:,} bytes")
