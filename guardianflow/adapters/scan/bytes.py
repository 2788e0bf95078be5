"""The first bytes of a file, read without ever waiting for a pipe or waking a device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["file_size", "joined", "read_start"]


def joined(folder: str, name: str) -> str:
    """The path of an entry; a scan joins too many of them to make a ``Path`` of each."""
    return f"{folder.rstrip(os.sep)}{os.sep}{name}"


def read_start(path: Path | str, length: int) -> bytes:
    """Up to ``length`` bytes of a regular file; empty where it is none, or can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return b""
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""
            parts = []
            while length > 0 and (part := stream.read(length)):
                parts.append(part)
                length -= len(part)
        except OSError:
            return b""
    return b"".join(parts)


def file_size(path: Path | str) -> int:
    """The size of a regular file in bytes; -1 where it is none, or isn't there."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1
