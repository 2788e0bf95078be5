"""What a supervisor and whoever started it tell each other, through two pipes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "COULD_NOT_START", "ENDED", "INTERRUPT", "MARKER", "STARTED", "STDERR", "STDOUT", "TERMINATE", "Facts", "Frames",
    "Job", "frame",
]  # fmt: skip

STARTED, COULD_NOT_START, STDOUT, STDERR, ENDED = b"S", b"X", b"O", b"E", b"D"
"""Kinds of frames that a supervisor sends: process id, error, two of output, how it ended."""

INTERRUPT, TERMINATE = b"I", b"T"
"""What it is told, a byte each; either one again means: faster. The end of the pipe: we are gone, end it all."""

MARKER = "GUARDIANFLOW_SUPERVISED"
"""Variable in the script's environment by which its processes are found when its supervisor was killed."""

_HEAD = struct.Struct("!cI")


@dataclass(frozen=True)
class Job:
    """What a supervisor is to run; see :class:`~guardianflow.processes.supervision.process.SupervisedProcess`."""

    argv: list[str]
    cwd: str
    environment: dict[str, str]
    folder: str
    timeout_s: float
    memory_mb: float
    interrupt_grace_s: float
    terminate_grace_s: float
    log_bytes: int
    secrets: list[str]
    live: str
    forward: bool

    def to_bytes(self) -> bytes:
        """As a supervisor reads it; names that are no valid UTF-8 survive."""
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Job:
        """The reverse of :meth:`to_bytes`."""
        return cls(**json.loads(data))


@dataclass(frozen=True)
class Facts:
    """How a script ended, as whoever watched it tells.

    Attributes:
        exit_code: ``None`` where it didn't end by itself.
        signal: Number of the signal that ended it; 0 for none.
        stopped: Why it was told to end; empty where it wasn't.
        killed: It didn't listen.
        held_mb: What it held when it was stopped for its memory.
        hopeless: Processes that could not be killed.
        reason: Set where the watcher itself was lost.
    """

    exit_code: int | None = None
    signal: int = 0
    stopped: str = ""
    killed: bool = False
    held_mb: float = 0.0
    hopeless: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_mb: float = 0.0
    left_behind: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    unread_bytes: int = 0
    remarks: Sequence[str] = ()
    reason: str = ""


def frame(kind: bytes, payload: bytes | dict[str, Any]) -> bytes:
    """One message."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode("ascii")
    return _HEAD.pack(kind, len(data)) + data


class Frames:
    """Messages out of a stream of bytes that comes in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The messages that are whole now: kind and payload."""
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            kind, size = _HEAD.unpack_from(self._buffer, at)
            end = at + _HEAD.size + size
            if end > len(self._buffer):
                break
            yield kind, bytes(self._buffer[at + _HEAD.size : end])
            at = end
        del self._buffer[:at]
