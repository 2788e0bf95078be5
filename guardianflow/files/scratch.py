"""Folders for a while: gone when they are closed; those of a process that was killed go with the next that is made.

Each lies in a folder that is this user's alone, and is locked by who made it; the system lets go of the lock when that
process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

__all__ = ["ScratchFolder", "sweep_scratch"]

_YOUNG_S = 60.0


class ScratchFolder:
    """A folder of its own, for this user only.

    Args:
        purpose: Begins its name.
        longest: Most bytes that its path should have, as sockets need it; 0: any. Where the system's temporary folder
            is too long, another is taken, if there is one.

    Attributes:
        path: Where it is.
    """

    def __init__(self, purpose: str, *, longest: int = 0) -> None:
        sweep_scratch()
        prefix = f"{purpose}-{os.getpid()}-"
        roots = [root for root in _roots() if not longest or len(os.fsencode(root / prefix)) + 8 <= longest]
        root = roots[0] if roots else _root(tempfile.gettempdir())
        with contextlib.suppress(OSError):
            root.mkdir(mode=0o700, exist_ok=True)
        if _is_ours(root):
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        else:  # somebody else has that name
            self.path = Path(tempfile.mkdtemp(prefix=f"guardianflow-{prefix}", dir=root.parent))
        self._lock = _locked(self.path)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep_scratch() -> None:
    """Remove what processes left that are gone."""
    for root in _roots():
        if not _is_ours(root):
            continue
        for folder in root.iterdir():
            with contextlib.suppress(OSError, IndexError):  # a name that is none of ours
                if _may_be_abandoned(folder) and (lock := _locked(folder)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)


def _roots() -> Iterator[Path]:
    """Where such folders may lie: the first is the system's temporary folder."""
    places = (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp")  # noqa: S108 - a folder of our own
    return (_root(place) for place in dict.fromkeys(places) if place and Path(place).is_dir())


def _root(place: str) -> Path:
    return Path(place, f"guardianflow-{os.getuid() if hasattr(os, 'getuid') else 'scratch'}")


def _is_ours(root: Path) -> bool:
    try:
        found = root.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _may_be_abandoned(folder: Path) -> bool:
    """Whether it is not that of a process which has made it just now, and hasn't locked it yet."""
    pid = folder.name.split("-")[-2]
    return not Path("/proc", pid).exists() or time.time() - folder.stat().st_mtime > _YOUNG_S


if sys.platform == "win32":

    def _locked(folder: Path) -> int | None:  # noqa: ARG001 - folders can't be locked there, and are not swept
        return None

else:
    import fcntl

    def _locked(folder: Path) -> int | None:
        """A lock on it that ends with this process; ``None`` where another holds one."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
