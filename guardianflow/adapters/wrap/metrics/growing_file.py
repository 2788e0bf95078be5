"""A file that somebody else writes: which bytes it gained, and when it has become another file.

Nothing is kept open between two looks, so a script may move, replace or delete what it wrote.
"""

from __future__ import annotations

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FileBefore", "Gain", "GrowingFile", "open_regular"]

_HEAD = 256 * 1024  # bytes whose checksum says that a file is still the one that was read
_TAIL = 4096


@dataclass(frozen=True)
class FileBefore:
    """A file as it was before a script began.

    Attributes:
        size: Bytes.
        mtime_ns: When it was last written.
        head: Checksum of its first bytes (256 KiB at most); ``None`` where only the size is known.
        tail: Its last bytes (4 KiB at most).
        data: All of it, where it is small and was to be kept.
    """

    size: int
    mtime_ns: int
    head: int | None = None
    tail: bytes = b""
    data: bytes = b""

    @classmethod
    def of(cls, path: Path, *, keep: int = 0) -> FileBefore | None:
        """Look at a file now, keeping its bytes if there are at most ``keep``; ``None`` where it can't be read."""
        try:
            handle = open_regular(path)
        except OSError:
            return None
        try:
            now = os.fstat(handle)
            head = zlib.crc32(os.pread(handle, min(_HEAD, now.st_size), 0))
            start = max(0, now.st_size - _TAIL)
            tail = os.pread(handle, now.st_size - start, start)
            data = os.pread(handle, now.st_size, 0) if now.st_size <= keep else b""
            return cls(now.st_size, now.st_mtime_ns, head, tail, data)
        except OSError:
            return None
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Gain:
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
    as one that has grown; any other change in what was read means that it is read anew.

    Args:
        path: The file.
        before: As it was before the script began, where it was there: those bytes come with ``old``.
    """

    def __init__(self, path: Path, before: FileBefore | None = None) -> None:
        self.path = path
        self.offset = 0
        self.inode = 0
        self._before = before
        self._head = 0
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
        anew = self.offset > 0 and not self._is_continued(handle, now.st_size)
        if anew:
            self._forget()
        if self._before is not None and self.offset == 0 and not self._was_there(handle, now.st_size):
            self._before = None
            anew = True
        old_bytes = max(0, (self._before.size if self._before else 0) - self.offset)
        data = os.pread(handle, min(limit, old_bytes) if old_bytes else limit, self.offset)
        self.inode = now.st_ino
        self._take(data)
        whole = self.offset >= now.st_size
        self._settled = (now.st_ino, now.st_size, now.st_mtime_ns) if whole else None
        if not data and not anew:
            return None
        return Gain(data, anew, old=bool(old_bytes), behind=not whole)

    def _forget(self) -> None:
        self.offset, self._head, self._tail, self._before = 0, 0, b"", None

    def _take(self, data: bytes) -> None:
        if self.offset < _HEAD:
            self._head = zlib.crc32(data[: _HEAD - self.offset], self._head)
        self.offset += len(data)
        self._tail = (self._tail + data[-_TAIL:])[-_TAIL:]

    def _is_continued(self, handle: int, size: int) -> bool:
        if size < self.offset:
            return False
        return _begins_with(handle, self.offset, self._head, self._tail)

    def _was_there(self, handle: int, size: int) -> bool:
        before = self._before
        if before is None or size < before.size:
            return False
        return before.head is None or _begins_with(handle, before.size, before.head, before.tail)


def _begins_with(handle: int, size: int, head: int, tail: bytes) -> bool:
    """Whether the first ``size`` bytes are those whose checksum and end are known."""
    if os.pread(handle, len(tail), size - len(tail)) != tail:
        return False
    return zlib.crc32(os.pread(handle, min(_HEAD, size), 0)) == head


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
