"""A server on this machine for tests of downloads; it cuts, forgets and dawdles where it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


@dataclass
class Site:
    """A server's files and manners, and what it was asked.

    Attributes:
        address: of the server, once it runs.
        files: by path.
        requests: path and ``Range`` of each.
        cuts: bytes after which the next answers end too early.
        ranges: it heeds ``Range``.
        delay: seconds in the middle of an answer.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    delay: float = 0

    def content(self, path: str) -> bytes | None:
        return self.files.get(path)


Served = TypeVar("Served", bound=Site)


@contextmanager
def serving(site: Served) -> Iterator[Served]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, site=site)) as server:
        site.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, *arguments: object, site: Site) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.site.requests.append((self.path, asked))
        content = self.site.content(self.path)
        if content is None:
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.site.ranges else 0
        if start >= len(content):
            return self.send_error(416)
        rest = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        rest = rest[: self.site.cuts.pop(0)] if self.site.cuts else rest
        self.wfile.write(rest[:1000])
        time.sleep(self.site.delay)
        self.wfile.write(rest[1000:])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""
