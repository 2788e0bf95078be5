"""The limits of a script, kept a second time by whoever started its supervisor.

A script can halt its supervisor, hold it as a debugger does, or kill it. So there is a clock and a list of processes
on this side, too; a supervisor that was halted is woken, and where it is held the script is ended from here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from guardianflow.processes.control_group import ControlGroup
from guardianflow.processes.process_watch import ProcessWatch
from guardianflow.processes.supervision.frames import MARKER, Facts, Job

__all__ = ["Guard"]

_LOOK_S = 0.25
_BEYOND_S = 6.0
_GONE_S = 5.0
_SILENT_S = 15.0
_LATE = "its supervisor was halted or held, and the limit was kept from outside"


class Guard:
    """A thread, so that no callback which hangs stands in its way.

    Args:
        job: Has the limits.
        pid: What was started: the supervisor's keeper, or the supervisor where there are no keepers.
        group: Their control group.
        silent_s: How long the supervisor has said nothing though somebody listens, s; ``None`` when it has said how the
            script ended.

    Attributes:
        stopped: Which limit was kept from here: ``"timeout"``, ``"out_of_memory"``, or empty.
    """

    def __init__(self, job: Job, pid: int, group: ControlGroup, silent_s: Callable[[], float | None]) -> None:
        self.stopped = ""
        self._job = job
        self._silent_s = silent_s
        self._began = time.monotonic()
        self._held_mb = 0.0
        self._supervisor = 0
        self._watch = ProcessWatch(pid, kept=True, mark=(MARKER, job.environment[MARKER]), group=group)
        self._off = threading.Event()
        self._thread = threading.Thread(target=self._stand_by, daemon=True, name="guardianflow-guard")
        self._thread.start()

    def close(self) -> None:
        """Let it be: nothing runs any more, or :meth:`end` is next."""
        self._off.set()
        self._thread.join()

    def end(self) -> None:
        """SIGKILL to all of it, until nothing is left."""
        self._watch.end()

    def told(self, facts: Facts) -> Facts:
        """How the script ended, with what was done from here."""
        if not self.stopped:
            return facts
        remarks = [*facts.remarks, _LATE]
        return replace(facts, stopped=self.stopped, killed=True, held_mb=self._held_mb, reason="", remarks=remarks)

    def _stand_by(self) -> None:
        while not self._off.wait(_LOOK_S):
            self._watch.note(now=True)
            self.stopped = self._over_limit(held=self._is_held())
            if self.stopped:
                self._take_over()
                return

    def _is_held(self) -> bool:
        """Whether the supervisor or its keeper doesn't run; one that was only halted runs from now on."""
        self._supervisor = self._supervisor or self._watch.kept()
        held = [pid for pid in (self._watch.pid, self._supervisor) if pid and self._watch.wake(pid)]
        return bool(held)

    def _over_limit(self, *, held: bool) -> str:
        late = time.monotonic() - self._began - self._job.timeout_s
        if self._job.timeout_s > 0 and late > 0:
            if held:
                return "timeout"
            if late > self._job.terminate_grace_s + _BEYOND_S and self._watch.living(but={self._supervisor}):
                return "timeout"
        if held and 0 < self._job.memory_mb < (held_mb := self._watch.read()):
            self._held_mb = held_mb
            return "out_of_memory"
        return ""

    def _take_over(self) -> None:
        """End all that the script started. A supervisor that can go on then says what there was."""
        self._watch.end(but={self._supervisor})
        since = time.monotonic()
        while (silent := self._silent_s()) is not None and not self._off.wait(_LOOK_S / 10):
            patience = _GONE_S if self._is_held() else _SILENT_S
            if min(silent, time.monotonic() - since) > patience:
                self._watch.end()
                return
