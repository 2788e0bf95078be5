"""The processes below this one, whoever their parent was before it ended.

A child subreaper adopts what a script's children leave behind when they fork twice; so all that a script ever
started is a descendant, and when there is no child left, nothing is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

__all__ = [
    "CHILDREN_KNOWN",
    "LINUX",
    "ProcessTree",
    "adopt_orphans",
    "descendants",
    "die_with_parent",
    "first_child",
    "marked",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
LINUX = sys.platform == "linux"


def adopt_orphans() -> bool:
    """Become the parent of descendants that lose theirs; whether the system can do that (Linux)."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: signal.Signals) -> bool:
    """Get a signal when the thread that started this process ends; whether the system can do that (Linux)."""
    return _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> bool:
    if not LINUX:
        return False
    import ctypes

    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


class ProcessTree:
    """All that a supervisor started: this process's descendants, itself aside.

    Args:
        group: The script's process group, whose members count even where the system lets orphans go (macOS).
        adopts: Whether it doesn't.
    """

    def __init__(self, group: int, *, adopts: bool) -> None:
        self.group = group
        self.adopts = adopts
        self.peak_mb = 0.0
        self._seen: dict[int, psutil.Process] = {}

    def living(self) -> list[int]:
        """Their process ids; those that have ended and were not waited for don't count."""
        if CHILDREN_KNOWN:
            return [pid for pid in descendants(os.getpid()) if _state(pid) not in "ZX"]
        return self._living_by_psutil()

    def memory_mb(self) -> float:
        """Resident memory of all of them now, MB; pages that they share count in each."""
        if CHILDREN_KNOWN:
            held = sum(_resident(pid) for pid in descendants(os.getpid()))
        else:
            import psutil

            held = 0
            for pid in self._living_by_psutil():
                with contextlib.suppress(psutil.Error):
                    held += psutil.Process(pid).memory_info().rss
        self.peak_mb = max(self.peak_mb, held / 1e6)
        return held / 1e6

    def signal_group(self, number: signal.Signals) -> None:
        """As a terminal does it: to the script's group, and only there."""
        with contextlib.suppress(OSError):
            os.killpg(self.group, number)

    def signal_all(self, number: signal.Signals) -> None:
        """To each of them."""
        for pid in self.living():
            with contextlib.suppress(OSError):
                os.kill(pid, number)

    def _living_by_psutil(self) -> list[int]:
        import psutil

        found = psutil.Process().children(recursive=True)
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):
                if os.getpgid(process.pid) == self.group:
                    found.append(process)
        self._seen.update({process.pid: process for process in found})
        alive = []
        for pid, process in list(self._seen.items()):
            with contextlib.suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(pid)
                    continue
            del self._seen[pid]
        return alive


def marked(variable: str, value: str) -> list[int]:
    """Processes with a variable in the environment they were started with."""
    if not LINUX:
        return _marked_by_psutil(variable, value)
    wanted = f"{variable}={value}".encode()
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0") and _state(int(folder.name)) not in "ZX":
                found.append(int(folder.name))
    return found


def _marked_by_psutil(variable: str, value: str) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(variable) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def descendants(pid: int) -> Iterator[int]:
    """The ids of all below a process, a parent before its children."""
    if not CHILDREN_KNOWN:
        import psutil

        with contextlib.suppress(psutil.Error):
            yield from (child.pid for child in psutil.Process(pid).children(recursive=True))
        return
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            yield child
            waiting.append(child)


def first_child(pid: int) -> int:
    """Of those that a process has now, the one that was there first; 0: none, or it can't be told (Linux only)."""
    return next(iter(_children(pid)), 0)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - a hundred threads, once a second
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def _state(pid: int) -> str:
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return "X"
    return text[text.rfind(b")") + 2 :][:1].decode("ascii")


def _resident(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


CHILDREN_KNOWN = LINUX and Path(f"/proc/self/task/{os.getpid()}/children").exists()
