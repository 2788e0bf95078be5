"""The memory that a process and all below it hold, watched from outside; and how much there is to hold."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

__all__ = ["MemoryWatch", "memory_limit"]

_SHARE = 0.9
_RESCAN_S = 1.0
_GONE_S = 5.0
_PAUSE_S = 0.02
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def memory_limit(asked_mb: float = 0) -> float:
    """How much a process may take, MB: what was asked, or nine tenths of what is available now.

    Available is what the machine has left, and no more than a container's own limit leaves.
    """
    if asked_mb:
        return asked_mb
    available = psutil.virtual_memory().available
    for limit, used in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            left = int(Path(limit).read_text(encoding="ascii")) - int(Path(used).read_text(encoding="ascii"))
            available = min(available, max(left, 0))
    return _SHARE * available / 1e6


class MemoryWatch:
    """A process tree, its memory, and its end.

    The tree is searched once a second only, since that reads a file of every process of the machine; what is
    known is read each time.

    Args:
        pid: The root: leader of a process group of its own.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_mb = 0.0
        self._members: dict[int, psutil.Process] = {}
        self._scan_due = 0.0

    def read(self) -> float:
        """Resident memory of all of them now, MB; pages that they share count in each."""
        self._scan()
        held = 0
        for member in self._members.values():
            with contextlib.suppress(psutil.Error):
                held += member.memory_info().rss
        self.peak_mb = max(self.peak_mb, held / 1e6)
        return held / 1e6

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all that still live."""
        self._scan(now=True)
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)
        for member in self._members.values():
            with contextlib.suppress(psutil.Error, OSError):  # psutil looks whether the id was given to another
                member.send_signal(number)

    def end_leftovers(self) -> None:
        """Kill what is still there, children that outlive their parent or don't listen, and see them gone.

        Their memory is free only then, and whoever comes next measures on this machine.
        """
        self.signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        others = [member for member in self._members.values() if member.pid != self.pid]
        psutil.wait_procs(others, timeout=_GONE_S)
        deadline = time.monotonic() + _GONE_S
        while self._group() and time.monotonic() < deadline:  # those that no scan saw before their parent ended
            time.sleep(_PAUSE_S)

    def _group(self) -> list[int]:
        """Who of the process group still runs, its leader aside."""
        if not hasattr(os, "getpgid"):
            return []
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                ours = pid != self.pid and os.getpgid(pid) == self.pid
                if ours and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    found.append(pid)
        return found

    def _scan(self, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._scan_due:
            return
        self._scan_due = time.monotonic() + _RESCAN_S
        with contextlib.suppress(psutil.Error):
            root = self._members.get(self.pid) or psutil.Process(self.pid)
            found = [root, *root.children(recursive=True)]
            self._members.update({member.pid: member for member in found if member.pid not in self._members})
