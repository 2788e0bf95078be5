"""A stream's log with a cap: the first half of it, the last half, and a line that says how much lies between.

Writing it must cost the writer of the stream nothing: :meth:`OutputLog.add` only remembers, and
:meth:`OutputLog.work` takes secrets out of a slice and writes it, whenever there is time. The first half is on
disk at once then; the last half goes round in two files beside it, which become one with it at the end.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["OutputLog"]

_COPY_BYTES = 1 << 20


@dataclass
class _Part:
    """One of the files that the last half goes round in; ``taken`` is its length before secrets were taken out."""

    path: Path
    file: BinaryIO
    size: int = 0
    taken: int = 0

    def drop(self) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)


class OutputLog:
    """The log of one stream.

    Args:
        path: Its file; an old one is replaced.
        limit: Most that is kept, bytes.

    Attributes:
        redact: Takes secrets out; nothing is written before it is set.
        total: Bytes that came.
        failed: Why the log could not be written, or empty.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self.path = path
        self.redact: Callable[[bytes], bytes] | None = None
        self.total = 0
        self.failed = ""
        self._head_room = limit // 2
        self._tail_limit = max(limit - limit // 2, 1)
        self._head_waits: deque[bytes] = deque()
        self._tail_waits: deque[bytes] = deque()
        self._tail_waiting = 0
        self._taken = 0
        self._parts: list[_Part] = []
        self._number = 0
        self._head: BinaryIO | None = None
        for old in _parts_of(path):
            old.unlink(missing_ok=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._head = path.open("w+b", buffering=0)
        except OSError as error:
            self._fail(error)

    def add(self, block: bytes) -> None:
        """Take whole lines in."""
        self.total += len(block)
        if self._head_room:
            cut = len(block) if len(block) <= self._head_room else block.rfind(b"\n", 0, self._head_room) + 1
            self._head_room = self._head_room - cut if cut == len(block) else 0
            if cut:
                self._head_waits.append(block[:cut])
            block = block[cut:]
        if block:
            self._tail_waits.append(block)
            self._tail_waiting += len(block)
        while self._tail_waiting - len(self._tail_waits[0] if self._tail_waits else b"") >= self._tail_limit:
            self._tail_waiting -= len(self._tail_waits.popleft())
            while self._parts:  # all older than what waits, which is enough
                self._parts.pop().drop()

    @property
    def waiting(self) -> bool:
        """Whether there is something to write."""
        return bool(self._head_waits or self._tail_waits) and not self.failed

    def work(self, *, idle: bool) -> bool:
        """Write one slice.

        Args:
            idle: Nothing is coming in just now; while it pours, what waits of the last half may well be
                overtaken and is left alone.

        Returns:
            Whether there was something to do.
        """
        if self.redact is None or self.failed or self._head is None:
            return False
        try:
            if self._head_waits:
                block = self._head_waits.popleft()
                _write(self._head, self.redact(block))
                self._taken += len(block)
            elif self._tail_waits and idle:
                self._work_on_tail(self._tail_waits.popleft(), self.redact)
            else:
                return False
        except OSError as error:
            self._fail(error)
        return True

    def close(self) -> None:
        """Write what waits, and make one file of it all."""
        while self.work(idle=True):
            pass
        if self._head is None:
            return
        try:
            if not self.failed:
                self._merge(self._head)
        except OSError as error:
            self._fail(error)
        finally:
            self._head.close()
            for part in self._parts:
                part.drop()

    @staticmethod
    def recover(path: Path) -> None:
        """Make one file of what a supervisor that was killed has left behind."""
        parts = _parts_of(path)
        if not parts:
            return
        with path.open("ab") as file:
            file.write("… the rest was lost with its supervisor, but for this …\n".encode())
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file, _COPY_BYTES)
                part.unlink()

    def _work_on_tail(self, block: bytes, redact: Callable[[bytes], bytes]) -> None:
        self._tail_waiting -= len(block)
        if not self._parts or self._parts[-1].size >= self._tail_limit:
            self._number += 1
            path = self.path.with_name(f"{self.path.name}.part{self._number}")
            self._parts.append(_Part(path, path.open("w+b", buffering=0)))
            while len(self._parts) > 2:
                self._parts.pop(0).drop()
        part = self._parts[-1]
        clean = redact(block)
        _write(part.file, clean)
        part.size += len(clean)
        part.taken += len(block)

    def _merge(self, head: BinaryIO) -> None:
        too_much = sum(part.size for part in self._parts) - self._tail_limit
        while self._parts and self._parts[0].size <= too_much:
            too_much -= self._parts[0].size
            self._parts.pop(0).drop()
        skip = _next_line(self._parts[0].file, too_much) if too_much > 0 else 0
        left_out = self.total - self._taken - sum(part.taken for part in self._parts) + skip
        if left_out:
            _write(head, f"{'' if _ends_a_line(head) else chr(10)}… {left_out:,} bytes left out …\n".encode())
        for part in self._parts:
            part.file.seek(skip)
            shutil.copyfileobj(part.file, head, _COPY_BYTES)
            skip = 0
        if not self.path.exists():  # the script deleted its log; we still hold it
            self.path.parent.mkdir(parents=True, exist_ok=True)
            head.seek(0)
            with self.path.open("wb") as file:
                shutil.copyfileobj(head, file, _COPY_BYTES)

    def _fail(self, error: OSError) -> None:
        self.failed = f"{self.path.name} is not whole: {error}"
        self._head_waits.clear()
        self._tail_waits.clear()
        self._tail_waiting = 0


def _parts_of(path: Path) -> list[Path]:
    found = [part for part in path.parent.glob("*.part*") if part.name.startswith(f"{path.name}.part")]
    return sorted(found, key=lambda part: (len(part.name), part.name))


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:  # unbuffered files may take less than all
        view = view[file.write(view) :]


def _next_line(file: BinaryIO, at: int) -> int:
    """Where a line begins, there or behind; where none does that is near, just there."""
    file.seek(at - 1)
    end = file.read(_COPY_BYTES).find(b"\n")
    return at + end if end >= 0 else at


def _ends_a_line(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    if not size:
        return True
    file.seek(size - 1)
    last = file.read(1)
    file.seek(0, 2)
    return last == b"\n"
