"""A control group (Linux, version 2) of what we start, where one is to be had: as root, or where it was delegated.

Its members are known to the kernel, whoever their parent is and whatever they made of their environment.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ControlGroup", "JoinedGroup"]

_VARIABLE = "GUARDIANFLOW_CONTROL_GROUP"
_EMPTY_S = 2.0
_PAUSE_S = 0.01
_PROCESSES, _KILL, _FREEZE = "cgroup.procs", "cgroup.kill", "cgroup.freeze"


class ControlGroup:
    """An empty one below our own; one without a folder where the system gives none.

    Attributes:
        environment: What a process that calls :class:`JoinedGroup` needs to find it.
    """

    def __init__(self) -> None:
        self._folder = _made()
        self.environment: Mapping[str, str] = {_VARIABLE: str(self._folder)} if self._folder else {}

    def members(self) -> list[int]:
        """The ids of the processes in it, and in those that they made below it."""
        return [pid for group in self._groups() for pid in _numbers_in(group / _PROCESSES)]

    def kill(self) -> None:
        """SIGKILL to all of them at once, to those that are being forked, too."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / _KILL).write_text("1", encoding="ascii")

    def thaw(self) -> bool:
        """Let them go on where they were frozen; whether they were."""
        frozen = [group / _FREEZE for group in self._groups() if 1 in _numbers_in(group / _FREEZE)]
        for file in frozen:
            with contextlib.suppress(OSError):
                file.write_text("0", encoding="ascii")
        return bool(frozen)

    def remove(self) -> None:
        """Remove it; the system lets go of the last that died in it a moment later."""
        deadline = time.monotonic() + _EMPTY_S
        while (groups := self._groups()) and time.monotonic() < deadline:
            for group in groups:
                with contextlib.suppress(OSError):
                    group.rmdir()
            time.sleep(_PAUSE_S)

    def _groups(self) -> list[Path]:
        """It and those below it, these first."""
        if self._folder is None or not self._folder.is_dir():
            return []
        return [Path(folder) for folder, _, _ in os.walk(self._folder, topdown=False)]


class JoinedGroup(ControlGroup):
    """The one that whoever started this process made for it: entered now, and kept from what it starts itself."""

    def __init__(self) -> None:
        folder = os.environ.pop(_VARIABLE, "")
        self.environment = {}
        self._folder = Path(folder) if folder else None
        self._enter(self._folder)

    def leave(self) -> None:
        """Go back to where we came from, and remove it."""
        if self._folder is not None:
            self._enter(self._folder.parent)
            self.remove()

    def _enter(self, group: Path | None) -> None:
        if group is not None:
            with contextlib.suppress(OSError):
                (group / _PROCESSES).write_text("0", encoding="ascii")


def _made() -> Path | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        here = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::/"))
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        root, place = next(words[3:5] for words in mounts if words[words.index("-") + 1] == "cgroup2")
        folder = Path(place, Path(here[3:]).relative_to(root), f"guardianflow-{os.getpid()}-{os.urandom(4).hex()}")
        folder.mkdir()
        if os.access(folder / _KILL, os.W_OK):
            return folder
        folder.rmdir()
    return None


def _numbers_in(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
