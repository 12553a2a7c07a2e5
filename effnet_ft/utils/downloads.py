"""Downloads that resume after a lost connection."""

from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from effnet_ft.utils.progress import progress_bar

_ATTEMPTS = 3


def download(address: str, part: Path, title: str) -> None:
    """Download ``address`` to ``part``, continuing a partial file there; a lost connection is retried.

    The caller must verify a hash: the partial file may have been another one's. It stays after an error.

    Raises:
        OSError: if the server has no such file or cannot be reached, or the disk is full.
        HTTPException: if the server breaks the protocol.
        ValueError: if the address is malformed.
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
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "effnet_ft", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response = urlopen(Request(address, headers=headers), timeout=30)
    except HTTPError as error:
        error.close()
        if start and error.code == 416:  # range beyond the end: the file is complete, or another one; the hash decides
            return
        raise
    with response:
        if response.status != 206:  # the server ignored the range and sends the whole file
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = progress_bar(title, total=total, initial=start, unit="B")
        with part.open("ab" if start else "wb") as file, bar:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and part.stat().st_size < total:
            raise ConnectionError(f"the connection was lost after {part.stat().st_size:,} of {total:,} bytes")
