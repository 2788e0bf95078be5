"""A server on loopback that answers as no server should: at a drip, without an end, packed, or not at all."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_MB = b" " * 1_000_000


def drips(url: str, request: bytes) -> Iterator[bytes]:
    """A byte at a time, well within the time-out of a socket."""
    yield _HEAD + b"Content-Length: 1000000\r\n\r\n"
    while True:
        yield b" "
        time.sleep(0.2)


def drips_head(url: str, request: bytes) -> Iterator[bytes]:
    for byte in _HEAD + b"X: " + b"x" * 60_000:
        yield bytes([byte])
        time.sleep(0.2)


def floods(url: str, request: bytes) -> Iterator[bytes]:
    """Chunks without an end."""
    yield _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"f4240\r\n" + _MB + b"\r\n"


def floods_line(url: str, request: bytes) -> Iterator[bytes]:
    """The size of a chunk, without an end."""
    yield _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"0" * 1_000_000


def floods_head(url: str, request: bytes) -> Iterator[bytes]:
    """Headers without an end."""
    yield _HEAD
    while True:
        yield b"X: y\r\n" * 100_000


def floods_refusal(url: str, request: bytes) -> Iterator[bytes]:
    """What a client would read to its end before it tries again."""
    yield b"HTTP/1.1 503 Busy\r\n\r\n"
    while True:
        yield _MB


def goes_on(url: str, request: bytes) -> Iterator[bytes]:
    """Continue, continue, continue."""
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000


def bomb(url: str, request: bytes) -> Iterator[bytes]:
    """A hundred kilobytes that unpack to a hundred megabytes."""
    body = gzip.compress(_MB) * 100
    yield _HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def lies(url: str, request: bytes) -> Iterator[bytes]:
    """Closed in the middle of what it promised."""
    yield _HEAD + b"Content-Length: 1000\r\n\r\n{"


def redirects(url: str, request: bytes) -> Iterator[bytes]:
    yield f"HTTP/1.1 307 Elsewhere\r\nLocation: {url}/again\r\nContent-Length: 0\r\n\r\n".encode()


def redirects_flooding(url: str, request: bytes) -> Iterator[bytes]:
    yield f"HTTP/1.1 307 Elsewhere\r\nLocation: {url}/again\r\n\r\n".encode()
    while True:
        yield _MB


def says_nothing(url: str, request: bytes) -> Iterator[bytes]:
    time.sleep(60)
    yield b""


def relays(port: int) -> Callable[[str, bytes], Iterator[bytes]]:
    """What the server behind a port of this machine says."""

    def answer(url: str, request: bytes) -> Iterator[bytes]:
        with socket.create_connection(("127.0.0.1", port)) as behind:
            behind.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while piece := behind.recv(65_536):
                yield piece

    return answer


def redirects_to(other: str) -> Callable[[str, bytes], Iterator[bytes]]:
    def answer(url: str, request: bytes) -> Iterator[bytes]:
        yield f"HTTP/1.1 307 Elsewhere\r\nLocation: {other}/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()

    return answer


MANNERS = (
    drips, drips_head, floods, floods_line, floods_head, floods_refusal, goes_on, bomb, lies, redirects,
    redirects_flooding, says_nothing,
)  # fmt: skip


class HostileServer:
    """One that answers every request in one manner.

    Args:
        answer: What it sends, given its own URL and the request, piece by piece, until the client goes away.

    Attributes:
        answer: The same; it may change its manners.
        requests: The head of each request that came.
        sent: Bytes that it got rid of.
    """

    def __init__(self, answer: Callable[[str, bytes], Iterator[bytes]]) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            head, body = b"", b""
            while b"\r\n\r\n" not in head:
                if not (piece := connection.recv(65_536)):
                    return
                head += piece
            head, _, body = head.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            while length and len(body) < int(length[1]):
                body += connection.recv(65_536)
            self.requests.append(head)
            for piece in self.answer(self.url, head + b"\r\n\r\n" + body):
                connection.sendall(piece)
                self.sent += len(piece)
