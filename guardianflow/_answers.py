"""What a server says over HTTP, read under limits: it comes at a pace, it ends, and it fits.

A socket's time-out is one for each read: a server that sends a byte a second never meets it. Here all the reads of an
answer count together; the time that its reader spends elsewhere doesn't.
"""

from __future__ import annotations

import http.client
import io
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import Any

__all__ = ["ANSWER", "FILE", "AnswerError", "Limit", "LimitedAnswer", "asked_for", "counted", "expect", "too_slow"]

_SLOWEST = 1e4  # bytes per second below which a server counts as hanging, once its socket's time-out has passed
_TIMEOUT_S = 60.0  # of a socket that has none
_SPARE = 1e9  # bytes that a download leaves on the disk, or a twentieth of a small one
_LOOK = 16_000_000  # bytes between two looks at the disk


class AnswerError(OSError):
    """An answer that was not read to its end: too slow, or too large."""


@dataclass(frozen=True)
class Limit:
    """What an answer may take.

    Attributes:
        most_bytes: Its size, as it comes and unpacked.
        longest_s: How long it is waited for, whatever its size.
    """

    most_bytes: float
    longest_s: float = inf


ANSWER = Limit(64e6, 60.0)
"""What is held in memory: a listing of a thousand runs has some megabytes."""

FILE = Limit(20e9)
"""What goes to a disk."""

_HEAD = Limit(1e6, 60.0)
_limit: ContextVar[Limit] = ContextVar("limit", default=ANSWER)


def expect(limit: Limit) -> None:
    """The limit of the answers to what this thread asks from now on."""
    _limit.set(limit)


@contextmanager
def asked_for(limit: Limit) -> Iterator[None]:
    """The limit of the answers to what is asked in the block, by this thread."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def too_slow(waited_s: float, moved: int, timeout_s: float, longest_s: float = inf) -> bool:
    """Whether a server that moved some bytes in some seconds counts as hanging."""
    return waited_s > max(timeout_s, min(timeout_s + moved / _SLOWEST, longest_s))


class LimitedAnswer(http.client.HTTPResponse):
    """A ``response_class`` for connections of ``http.client`` and all that is built on them.

    One that is no success is held to :data:`ANSWER` in any case.
    """

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._watched = _Watched(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._watched)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._watched.limit = _limit.get() if self.status < 300 else ANSWER


class _Watched(io.RawIOBase):
    """A socket's bytes; together they may take what the limit says."""

    def __init__(self, sock: Any, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._timeout_s: float = sock.gettimeout() or _TIMEOUT_S
        self._waited_s, self._bytes = 0.0, 0
        self.limit = _HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began = time.monotonic()
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError as error:
            raise self._slow(time.monotonic() - began) from error
        self._waited_s += time.monotonic() - began
        self._bytes += count or 0
        if count and too_slow(self._waited_s, self._bytes, self._timeout_s, self.limit.longest_s):
            raise self._slow()
        if self._bytes > self.limit.most_bytes:
            raise _too_large(self.limit)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _slow(self, more_s: float = 0.0) -> AnswerError:
        waited_s = self._waited_s + more_s
        if not self._bytes:
            return AnswerError(f"no answer within {waited_s:.0f} s")
        return AnswerError(f"its answer was not whole after {waited_s:.0f} s: {self._bytes:,} bytes came")


def counted(pieces: Iterable[bytes], limit: Limit) -> Iterator[bytes]:
    """The pieces of an unpacked answer, as long as they fit.

    Raises:
        AnswerError: They don't.
    """
    size = looked = 0
    for piece in pieces:
        size += len(piece)
        if size > limit.most_bytes:
            raise _too_large(limit)
        if limit is FILE and size - looked > _LOOK:
            looked = size
            disk = shutil.disk_usage(tempfile.gettempdir())
            if disk.free < min(_SPARE, disk.total / 20):
                raise AnswerError(f"its answer would fill the disk: {size / 1e6:,.0f} MB came, and it went on")
        yield piece


def _too_large(limit: Limit) -> AnswerError:
    return AnswerError(f"its answer is larger than {limit.most_bytes / 1e6:,.0f} MB")
