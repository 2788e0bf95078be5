"""What a script prints, on its way to three places: its log, whoever looks for metrics, and the terminal.

None of the three may slow the script but the terminal, which would do so without us, too. Memory is bounded
whatever comes: the log keeps a first and a last half, the reader's backlog its last 4 MB.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from guardianflow.processes.supervision.frames import STDERR, STDOUT
from guardianflow.processes.supervision.output_log import OutputLog

__all__ = ["Backlog", "LineBlocks", "LiveCopy", "ScriptStream", "widen"]

PIPE_BYTES = 1 << 20
_PIECE = 64 * 1024
_LONGEST_LINE = 256 * 1024
_BACKLOG_BYTES = 4 << 20
_LOOK_AGAIN_S = 0.5
_F_SETPIPE_SZ = 1031


def widen(pipe: int) -> None:
    """Give a pipe the largest buffer that it may have: who writes there waits less often."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES)


class LineBlocks:
    r"""Cuts a stream into pieces of whole lines, so that nothing that stands in one line is torn.

    A lone ``\r`` ends a line too: progress bars write one for hours. A line that never ends is cut all the same.

    Args:
        secrets: Values that are not torn either, even where they span lines.
    """

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        self._secrets = [secret for secret in secrets if len(secret) > 1]
        self._of_many_lines = [secret for secret in self._secrets if len(secret.splitlines()) > 1]
        self._rest: list[bytes] = []
        self._size = 0

    def take(self, data: bytes) -> list[bytes]:
        """What is whole now."""
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if cut == 0 and self._size + len(data) < _LONGEST_LINE:
            self._rest.append(data)
            self._size += len(data)
            return []
        whole = b"".join([*self._rest, data])
        if cut:
            cut = self._untorn(whole, len(whole) - len(data) + cut, self._of_many_lines)
        else:
            cut = self._untorn(whole, len(whole), self._secrets)
        self._rest = [whole[cut:]] if cut < len(whole) else []
        self._size = len(whole) - cut
        return self._pieces(whole[:cut])

    def rest(self) -> list[bytes]:
        """What is left at the stream's end."""
        whole, self._rest, self._size = b"".join(self._rest), [], 0
        return self._pieces(whole)

    def _pieces(self, whole: bytes) -> list[bytes]:
        pieces, start = [], 0
        while len(whole) - start > _PIECE:
            end = self._end_of_piece(whole, start)
            pieces.append(whole[start:end])
            start = end
        if start < len(whole):
            pieces.append(whole[start:])
        return pieces

    def _end_of_piece(self, whole: bytes, start: int) -> int:
        for longest in (_PIECE, _LONGEST_LINE):
            for sign in (b"\n", b"\r"):
                end = self._untorn(whole, whole.rfind(sign, start, start + longest) + 1, self._of_many_lines)
                if end > start:
                    return end
        last = min(start + _LONGEST_LINE, len(whole))
        end = self._untorn(whole, last, self._secrets) if last < len(whole) else last
        return end if end > start else last

    @staticmethod
    def _untorn(data: bytes, cut: int, secrets: Sequence[bytes]) -> int:
        """The cut, moved to before a secret that has begun when it comes and may go on behind it."""
        earliest = cut
        for secret in secrets:
            for begun in range(min(len(secret) - 1, cut), 0, -1):
                if secret[begun - 1] == data[cut - 1] and data.endswith(secret[:begun], 0, cut):
                    earliest = min(earliest, cut - begun)
                    break
        return earliest


class Backlog:
    """What the reader has not taken yet; when there is too much of it, the oldest is given up."""

    def __init__(self) -> None:
        self.lost = 0
        self._waiting: dict[bytes, deque[tuple[int, bytes]]] = {STDOUT: deque(), STDERR: deque()}
        self._held = dict.fromkeys(self._waiting, 0)
        self._count = 0

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def add(self, kind: bytes, block: bytes) -> None:
        """One more block of a stream."""
        self._count += 1
        waiting = self._waiting[kind]
        waiting.append((self._count, block))
        self._held[kind] += len(block)
        while self._held[kind] - len(waiting[0][1]) >= _BACKLOG_BYTES:
            gone = len(waiting.popleft()[1])
            self._held[kind] -= gone
            self.lost += gone

    def take(self) -> tuple[bytes, bytes]:
        """The oldest of both streams."""
        kind = min((kind for kind, waiting in self._waiting.items() if waiting), key=lambda k: self._waiting[k][0][0])
        block = self._waiting[kind].popleft()[1]
        self._held[kind] -= len(block)
        return kind, block

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self.lost += sum(self._held.values())
        for kind, waiting in self._waiting.items():
            waiting.clear()
            self._held[kind] = 0


class LiveCopy:
    """The end of a FIFO that somebody may read, or not, or no longer.

    Args:
        path: The FIFO; ``None`` where there is none.

    Attributes:
        pending: What the reader has had no room for.
        fd: Our end; -1 while nobody reads.
        moved_at: When it last took something, by the monotonic clock.
    """

    def __init__(self, path: Path | None) -> None:
        self.pending = memoryview(b"")
        self.fd = -1
        self.moved_at = 0.0
        self._path = path
        self._look_due = 0.0

    def write(self, data: bytes) -> None:
        """Pass data on; what the reader has no room for stays pending."""
        if self.fd < 0:
            self._look()
        if self.fd >= 0:
            self.pending = memoryview(data)
            self.flush()

    def flush(self) -> None:
        """Try what is pending again."""
        while self.pending and self.fd >= 0:
            try:
                self.pending = self.pending[os.write(self.fd, self.pending) :]
                self.moved_at = time.monotonic()
            except BlockingIOError:
                return
            except OSError:  # the reader has gone
                self.close()

    def close(self) -> None:
        """Done, or nobody there; what was pending is lost."""
        self.pending = memoryview(b"")
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _look(self) -> None:
        if self._path is None or time.monotonic() < self._look_due:
            return
        self._look_due = time.monotonic() + _LOOK_AGAIN_S
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: nobody reads
            return
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            self._path = None
            return
        widen(fd)
        self.fd = fd


class ScriptStream:
    """One of the script's two streams.

    Args:
        kind: ``STDOUT`` or ``STDERR``.
        fd: The pipe's reading end.
        log: Where it is kept.
        backlog: Where whoever reads along gets it from; ``None``: nobody does.
        live: Where it is shown.
        secrets: What must not be torn.
    """

    def __init__(
        self,
        kind: bytes,
        fd: int,
        *,
        log: OutputLog,
        backlog: Backlog | None,
        live: LiveCopy,
        secrets: Sequence[bytes] = (),
    ) -> None:
        self.fd = fd
        self.total = 0
        self.log = log
        self.live = live
        self._kind = kind
        self._backlog = backlog
        self._blocks = LineBlocks(secrets)
        os.set_blocking(fd, False)
        widen(fd)

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self.fd >= 0

    def pump(self) -> int:
        """Take what is there, unless the terminal hasn't taken what came before; how much it was."""
        self.live.flush()
        if self.live.pending or not self.open:
            return 0
        try:
            data = os.read(self.fd, PIPE_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.close()
            return 0
        self.total += len(data)
        self.live.write(data)
        self._keep(self._blocks.take(data))
        return len(data)

    def close(self) -> None:
        """No more is taken from it."""
        if self.open:
            os.close(self.fd)
            self.fd = -1
            self._keep(self._blocks.rest())

    def _keep(self, blocks: Sequence[bytes]) -> None:
        for block in blocks:
            self.log.add(block)
            if self._backlog is not None:
                self._backlog.add(self._kind, block)
