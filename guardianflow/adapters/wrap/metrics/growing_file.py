"""A file that somebody else writes: which bytes it gained, when it has become another file, and its points.

Nothing is kept open between two looks, so a script may move, replace or delete what it wrote.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from guardianflow.adapters.wrap.metrics.measurement import Point
from guardianflow.exceptions import InputError

__all__ = ["Gain", "GrowingFile", "PointReader", "Points", "mark_of", "open_regular", "read_points"]

Points = dict[str, list[tuple[int, float, int | None]]]
"""Legal metric name → its points in the file's order: step, value, time in ms since 1970 (or ``None``)."""

_TAIL = 4096  # bytes before the place of reading that say that a file is still the one that was read
_CHUNK = 1 << 20
_MAX_POINTS = 5_000_000


class PointReader(Protocol):
    """Turns the bytes of a file into points, however the bytes are cut."""

    names: Collection[str] = ()  # legal ones that the file is known to have
    refused: str = ""  # why nothing more is read of it
    started_over: bool = False  # by another training in the bytes that came last; the points are of the last one

    @property
    def remarks(self) -> Sequence[str]:
        """What was left out, and what could have been meant otherwise."""

    def feed(self, data: bytes) -> list[Point]:
        """The points that these bytes complete."""

    def close(self) -> list[Point]:
        """The points in what has no end."""


def read_points(path: Path, reader: PointReader) -> Points:
    """The points of the last training in a finished file.

    Raises:
        InputError: There is no such file, or it can't be read.
    """
    points: Points = {}
    count, data = 0, b"."
    try:
        with open_regular(path.resolve()) as file:
            while data and not reader.refused and count < _MAX_POINTS:
                data = file.read(_CHUNK)
                found = reader.feed(data) if data else reader.close()
                if reader.started_over:
                    points.clear()
                for name, value, step, time_ms in found:
                    points.setdefault(name, []).append((step, value, time_ms))
                count += len(found)
    except OSError as error:
        raise InputError(f"a file of metrics must be one that can be read: {path} ({error}); check the path") from error
    if count >= _MAX_POINTS:
        reader.refused = f"more than {_MAX_POINTS:,} points; the rest is left out"
    return points


class Gain(NamedTuple):
    """What a file gained since the last look."""

    data: bytes
    anew: bool  # these are the first bytes of a file that was truncated, rewritten or replaced
    old: bool  # these bytes were there before the script began
    behind: bool  # more is waiting


class GrowingFile:
    """Reads what a file gains.

    A rewritten file whose beginning is what was read already (Lightning rewrites its whole table each time) counts
    as one that has grown; any other change means that it is read anew.

    ``there``: it was there before the script began; what it has by now comes with ``old``, once it has grown.

    Raises:
        OSError: It was there, and can't be read.
    """

    def __init__(self, path: Path, *, there: bool = False) -> None:
        self._path = path
        self._offset = self._old = 0
        self._tail = b""
        self.mark: tuple[int, int, int] | None = None  # of the file as it was read whole
        self._begun = False
        if there:
            with open_regular(path) as file:
                self.mark = mark_of(os.fstat(file.fileno()))
                self._offset = self._old = self.mark[1]
                self._tail = os.pread(file.fileno(), _TAIL, max(0, self._old - _TAIL))

    def read(self, limit: int) -> Gain | None:
        """The next bytes, at most ``limit``; ``None`` where nothing changed or the file is gone."""
        try:
            if mark_of(self._path.lstat()) == self.mark:
                return None
            with open_regular(self._path) as file:
                return self._gain(file.fileno(), limit)
        except OSError:  # a disk or network folder that fails now may answer at the next look
            return None

    def _gain(self, handle: int, limit: int) -> Gain | None:
        mark = mark_of(os.fstat(handle))
        size, tail = mark[1], self._tail
        anew = size < self._offset or os.pread(handle, len(tail), self._offset - len(tail)) != tail
        if anew:
            self._old = 0
        if anew or not self._begun:  # what was there is read as well: it holds the names of columns
            self._offset, self._tail, self._begun = 0, b"", True
        old = self._offset < self._old
        data = os.pread(handle, min(limit, self._old - self._offset) if old else limit, self._offset)
        self._offset += len(data)
        self._tail = (self._tail + data)[-_TAIL:]
        self.mark = mark if self._offset >= size else None
        return Gain(data, anew, old, self._offset < size) if data or anew else None


def mark_of(status: os.stat_result) -> tuple[int, int, int]:
    """Inode, size and time of writing: they differ as soon as somebody wrote to a file, or put another in its place."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading: no link is followed, and no pipe or device is waited for.

    Raises:
        OSError: It can't be opened, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is no regular file")
    return os.fdopen(handle, "rb")
