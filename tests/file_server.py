"""A web server on this machine that gives files: whole or in parts, broken off, moved, or not at all."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class File:
    """What is sent for a path, and how."""

    content: bytes = b""
    tag: str | None = '"one"'  # ETag
    ranges: bool = True  # whether parts can be asked for
    length: bool = True  # whether its length is told
    breaks: list[int] = field(default_factory=list)  # of each next answer: break off after so many bytes
    statuses: list[int] = field(default_factory=list)  # of each next answer: this status instead
    to: str | None = None  # moved there


class Server:
    """What the server has, and the requests that it has seen: path and range."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.url = ""


@contextmanager
def serve() -> Iterator[Server]:
    known = Server()
    server = _Quiet(("127.0.0.1", 0), type("_Handler", (_Handler,), {"known": known}))
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None: ...  # who hangs up is what some tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known: Server

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.known.seen.append((self.path, asked))
        file = self.known.files.get(self.path)
        status = 404 if file is None else file.statuses.pop(0) if file.statuses else 200
        if file is None or status != 200:
            return self._answer(status, b"", {})
        if file.to is not None:
            return self._answer(302, b"", {"Location": file.to})
        headers = {"ETag": file.tag} if file.tag else {}
        content = file.content
        match = re.fullmatch(r"bytes=(\d+)-", asked or "")
        same = self.headers.get("If-Range") in (None, file.tag)
        if match and file.ranges and same:
            start = int(match[1])
            if start >= len(content):
                return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status, content = 206, content[start:]
        cut = file.breaks.pop(0) if file.breaks else None
        self._answer(status, content, headers, cut=cut, length=file.length)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None, length: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None or not length
