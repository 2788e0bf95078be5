"""A file that somebody else writes: which bytes it gained, when it has become another file, and its points.

Nothing is kept open between two looks, so a script may move, replace or delete what it wrote.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from guardianflow.adapters.wrap.metrics.measurement import Point
from guardianflow.exceptions import InputError

__all__ = ["Curve", "FileBefore", "Gain", "GrowingFile", "PointReader", "Points", "open_regular", "read_points"]

Curve = list[tuple[int, float, int | None]]
"""Points in a file's order: step, value, time in ms since 1970 (or ``None``)."""

Points = dict[str, Curve]
"""Legal metric name → its points."""

_TAIL = 4096  # bytes before the place of reading that say that a file is still the one that was read
_CHUNK = 1 << 20
_MAX_POINTS = 5_000_000


class PointReader:
    """Turns the bytes of a file into points, however the bytes are cut.

    Attributes:
        kind: ``"ultralytics"``, ``"lightning"``, ``"csv"`` or ``"tensorboard"``; ``""`` until that is known.
        refused: Why nothing more is read of it.
        started_over: Another training began in the bytes that came last; the points are those of the last one.
    """

    kind = ""
    refused = ""
    started_over = False

    @property
    def names(self) -> Sequence[str]:
        """Legal names that the file is known to have."""
        raise NotImplementedError

    @property
    def remarks(self) -> Sequence[str]:
        """What was left out, and what could have been meant otherwise."""
        raise NotImplementedError

    def feed(self, data: bytes) -> list[Point]:
        """The points that these bytes complete."""
        raise NotImplementedError

    def close(self) -> list[Point]:
        """The points in what has no end."""
        raise NotImplementedError


def read_points(path: Path, reader: PointReader) -> Points:
    """The points of the last training in a finished file.

    Raises:
        InputError: There is no such file, or it can't be read.
    """
    points: Points = {}
    count, data = 0, b"."
    try:
        with os.fdopen(open_regular(path.resolve()), "rb") as stream:
            while data and not reader.refused and count < _MAX_POINTS:
                data = stream.read(_CHUNK)
                found = reader.feed(data) if data else reader.close()
                if reader.started_over:
                    points.clear()
                for name, value, step, time_ms in found:
                    points.setdefault(name, []).append((step, value, time_ms))
                count += len(found)
    except OSError as error:
        raise InputError(
            f"metrics are read from a file that can be opened: {path} ({error}); check the path"
        ) from error
    if count >= _MAX_POINTS:
        reader.refused = f"more than {_MAX_POINTS:,} points; the rest is left out"
    return points


class FileBefore(NamedTuple):
    """A file as it was before a script began; ``tail`` are its last bytes, ``None`` where only the size is known."""

    size: int
    mtime_ns: int
    tail: bytes | None = None

    @classmethod
    def of(cls, path: Path) -> FileBefore | None:
        """Look at a file now; ``None`` where it can't be read."""
        try:
            handle = open_regular(path)
        except OSError:
            return None
        try:
            now = os.fstat(handle)
            start = max(0, now.st_size - _TAIL)
            return cls(now.st_size, now.st_mtime_ns, os.pread(handle, now.st_size - start, start))
        except OSError:
            return None
        finally:
            os.close(handle)


class Gain(NamedTuple):
    """What a file gained since the last look.

    Attributes:
        data: The bytes.
        anew: These are the first bytes of a file that was truncated, rewritten or replaced.
        old: These bytes were there before the script began.
        behind: More is waiting.
    """

    data: bytes
    anew: bool
    old: bool
    behind: bool


class GrowingFile:
    """Reads what a file gains.

    A rewritten file whose beginning is what was read already (Lightning rewrites its whole table each time) counts
    as one that has grown; any other change means that it is read anew.

    Args:
        path: The file.
        before: As it was before the script began, where it was there: those bytes come with ``old``.
    """

    def __init__(self, path: Path, before: FileBefore | None = None) -> None:
        self.path = path
        self._before = before
        self._offset = 0
        self._tail = b""
        self._settled: tuple[int, int, int] | None = None

    def read(self, limit: int) -> Gain | None:
        """The next bytes, at most ``limit``; ``None`` where nothing changed or the file is gone."""
        try:
            now = self.path.lstat()
            if (now.st_ino, now.st_size, now.st_mtime_ns) == self._settled:
                return None
            handle = open_regular(self.path)
        except OSError:
            return None
        try:
            return self._gain(handle, limit)
        except OSError:
            return None  # a disk or network folder that fails now may answer at the next look
        finally:
            os.close(handle)

    def _gain(self, handle: int, limit: int) -> Gain | None:
        now = os.fstat(handle)
        before = self._before
        anew = self._offset > 0 and not _stands(handle, now.st_size, self._offset, self._tail)
        if anew:
            self._offset, self._tail = 0, b""
        if before and self._offset == 0 and (anew or not _stands(handle, now.st_size, before.size, before.tail)):
            self._before, anew = None, True
        old_bytes = max(0, (self._before.size if self._before else 0) - self._offset)
        data = os.pread(handle, min(limit, old_bytes) if old_bytes else limit, self._offset)
        self._offset += len(data)
        self._tail = (self._tail + data)[-_TAIL:]
        whole = self._offset >= now.st_size
        self._settled = (now.st_ino, now.st_size, now.st_mtime_ns) if whole else None
        return Gain(data, anew, bool(old_bytes), not whole) if data or anew else None


def _stands(handle: int, size: int, end: int, tail: bytes | None) -> bool:
    """Whether a file still has these bytes before this place."""
    return size >= end and (tail is None or os.pread(handle, len(tail), end - len(tail)) == tail)


def open_regular(path: Path) -> int:
    """Open a file for reading: no link is followed, and no pipe or device is waited for.

    Raises:
        OSError: It can't be opened, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is no regular file")
    return handle
