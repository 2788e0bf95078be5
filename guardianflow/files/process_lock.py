"""A lock between processes, kept by the operating system: whoever dies lets go."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from guardianflow.exceptions import ConflictError

__all__ = ["process_lock"]


@contextlib.contextmanager
def process_lock(path: Path, *, timeout_s: float, what: str) -> Iterator[None]:
    """Hold a file's lock for the length of the block.

    The file stays where it is: removing it would let two holders lock two different files.

    Args:
        path: The lock file; its folder is made.
        timeout_s: How long to wait for another holder.
        what: What is locked, as the error message says it.

    Raises:
        ConflictError: Another process or thread held it for all of ``timeout_s``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        _wait(descriptor, path, timeout_s, what)
        try:
            yield
        finally:
            _release(descriptor)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, path: Path, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    pause = 0.0005
    while not _try_acquire(descriptor):
        if time.monotonic() > deadline:
            raise ConflictError(
                f"another process holds the lock of {what} ({path}) and did not let go for {timeout_s:g} s. Try again."
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


if sys.platform == "win32":
    import msvcrt

    def _try_acquire(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _release(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_acquire(descriptor: int) -> bool:
        try:
            # flock, not lockf: it also keeps two threads of one process apart.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
