"""A process that we started and all that it started, watched from outside: their list, their memory, their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

import psutil

from guardianflow.processes.control_group import ControlGroup
from guardianflow.processes.keeper import KILL
from guardianflow.processes.tree import CHILDREN_KNOWN, descendants, first_child

__all__ = ["ProcessWatch", "memory_limit"]

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


class ProcessWatch:
    """A process tree as whoever started it sees it.

    Once seen, a process stays in the list when its parent ends and wherever it goes then. It is told by its id and its
    start, so one that was given the id of another is never hit.

    Args:
        pid: The root: leader of a process group of its own.
        kept: Whether a keeper is the root, where there are keepers: it doesn't count.
        mark: Variable of the environment, and one of its values between colons, by which those are found that no look
            saw.
        group: The control group that they are in.

    Attributes:
        peak_mb: Most memory seen, MB.
    """

    def __init__(
        self,
        pid: int,
        *,
        kept: bool = False,
        mark: tuple[str, str] | None = None,
        group: ControlGroup | None = None,
    ) -> None:
        self.pid = pid
        self.peak_mb = 0.0
        self._kept = kept and CHILDREN_KNOWN
        self._mark = mark
        self._group = group
        self._due = 0.0
        self._members: dict[int, psutil.Process] = {}
        self._root: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):
            self._root = psutil.Process(pid)

    def note(self, *, now: bool = False) -> None:
        """Look who is there; once a second is enough. A root that was halted is woken: it is to keep the others."""
        if not now and time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _RESCAN_S
        known = {pid: member for pid, member in self._members.items() if member.is_running()}
        if self._root is not None and self._root.is_running():
            known[self.pid] = self._root
            self.wake(self.pid)
        for pid in list(known):
            for found in descendants(pid):
                if found not in known:
                    with contextlib.suppress(psutil.Error):
                        known[found] = psutil.Process(found)
        self._members = known

    def kept(self) -> int:
        """The id of the process that the keeper keeps, or of the root where there is none; 0: not there yet."""
        return first_child(self.pid) if self._kept else self.pid

    def wake(self, pid: int) -> bool:
        """Let a process go on that was halted or frozen; whether it was, or is held by a debugger."""
        if self._group is not None and self._group.thaw():
            return True
        with contextlib.suppress(psutil.Error, OSError):
            if (state := psutil.Process(pid).status()) == psutil.STATUS_STOPPED:
                os.kill(pid, signal.SIGCONT)
            return state in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
        return False

    def read(self) -> float:
        """Resident memory of all of them now, MB; pages that they share count in each."""
        self.note()
        held = 0
        for member in [member for pid, member in self._members.items() if pid != self.pid or not self._kept]:
            with contextlib.suppress(psutil.Error):
                held += member.memory_info().rss
        self.peak_mb = max(self.peak_mb, held / 1e6)
        return held / 1e6

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all that still live."""
        for process in [self._root, *self.living()] if self._root is not None else self.living():
            with contextlib.suppress(psutil.Error, OSError):
                process.send_signal(number)

    def living(self, *, but: Collection[int] = ()) -> list[psutil.Process]:
        """All but the root: those in the list, and those who are in its groups or bear the mark."""
        self.note(now=True)
        left = dict(self._members)
        for pid in self._group.members() if self._group is not None else ():
            with contextlib.suppress(psutil.Error):
                left.setdefault(pid, psutil.Process(pid))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid not in left and process.pid != os.getpid() and self._is_ours(process):
                    left[process.pid] = process
        return [left[pid] for pid in left if pid not in {self.pid, *but} and _lives(left[pid])]

    def end(self, *, grace_s: float = 0.0, but: Collection[int] = ()) -> int:
        """End them and see them gone, the root last: their memory is free only then, and others measure here.

        Args:
            grace_s: From SIGTERM until SIGKILL follows; 0: SIGKILL at once.
            but: Who is left alone; the root is, too, where there is somebody.

        Returns:
            How many there were, the root aside.
        """
        began, met = time.monotonic(), set[int]()
        number = signal.SIGTERM if grace_s else KILL
        while (left := self.living(but=but)) and time.monotonic() - began < grace_s + _GONE_S:
            number = KILL if time.monotonic() - began >= grace_s else number
            for process in left:
                if number == KILL or process.pid not in met:
                    with contextlib.suppress(psutil.Error, OSError):
                        process.send_signal(number)
                met.add(process.pid)
            time.sleep(_PAUSE_S)
        if not but:
            self._end_root()
        return len(met)

    def _end_root(self) -> None:
        if self._root is not None:
            with contextlib.suppress(psutil.Error, OSError):
                self._root.send_signal(KILL)
        if self._group is not None:
            self._group.kill()
            self._group.remove()

    def _is_ours(self, process: psutil.Process) -> bool:
        if self._mark is not None and self._mark[1] in process.environ().get(self._mark[0], "").split(":"):
            return True
        if self._root is None or not hasattr(os, "getpgid") or os.getpgid(process.pid) != self.pid:
            return False
        return self._root.is_running() or not psutil.pid_exists(self.pid)  # else the group is another's with its id


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
