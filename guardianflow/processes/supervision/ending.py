"""How a script is ended: told, told again, and killed; and what it leaves behind, after it."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable

from guardianflow.processes.supervision.frames import Job
from guardianflow.processes.tree import ProcessTree

__all__ = ["Ending"]

_SHORT_GRACE_S = 1.0
_BY_ITSELF_S = 0.5
_KILL_AGAIN_S = 0.02
_UNKILLABLE_S = 4.0

Step = tuple[Callable[[], None], float]


class Ending:
    """The way down, a step after the other, each with the time that it has.

    Args:
        job: Says how long the script has.
        tree: Its processes.

    Attributes:
        stopped: Why it is being ended, as in :class:`~guardianflow.processes.supervision.process.Ended`, or empty.
        killed: Whether it came to SIGKILL while the script ran.
        left_behind: How many processes outlived it.
        hopeless: How many could not be killed.
    """

    def __init__(self, job: Job, tree: ProcessTree) -> None:
        self.stopped = ""
        self.killed = False
        self.left_behind = 0
        self.hopeless = 0
        self._job = job
        self._tree = tree
        self._steps: deque[Step] = deque()
        self.due = float("inf")  # when tick() has something to do, by the monotonic clock
        self._killing_until = 0.0
        self._cleans_up = False

    def begin(self, stopped: str) -> None:
        """End the script; where that has begun already, faster."""
        if self.stopped or self._cleans_up:
            self.due = 0.0
            self.tick()
            return
        self.stopped = stopped
        patient = stopped in {"interrupted", "terminated", "timeout"}
        self._steps = deque(
            [
                (self._terminate, self._job.terminate_grace_s if patient else _SHORT_GRACE_S),
                (self._kill, _KILL_AGAIN_S),
            ]
        )
        if stopped == "interrupted":
            self._steps.appendleft((self._interrupt, self._job.interrupt_grace_s))
        self.due = 0.0
        self.tick()

    def clean_up(self) -> None:
        """The script itself has ended: what it has left behind has to, too."""
        if self._cleans_up:
            return
        self._cleans_up = True
        if self._killing_until:
            return
        self._steps = deque(
            [
                (lambda: None, _BY_ITSELF_S),
                (self._count, 0.0),
                (self._terminate, _SHORT_GRACE_S),
                (self._kill, _KILL_AGAIN_S),
            ]
        )
        self.due = 0.0
        self.tick()

    def tick(self) -> None:
        """Take the next step if its time has come."""
        while self._steps and time.monotonic() >= self.due:
            step, grace = self._steps.popleft()
            step()
            if step == self._kill and not self.hopeless:
                self._steps.append((self._kill, grace))
            self.due = time.monotonic() + grace if self._steps else float("inf")

    def _interrupt(self) -> None:
        self._tree.signal_group(signal.SIGINT)
        self._tree.signal_group(signal.SIGCONT)  # one that was halted would not hear it

    def _terminate(self) -> None:
        self._tree.signal_all(signal.SIGTERM)
        self._tree.signal_all(signal.SIGCONT)

    def _count(self) -> None:
        self.left_behind = len(self._tree.living())

    def _kill(self) -> None:
        now = time.monotonic()
        if not self._killing_until:
            self._killing_until = now + _UNKILLABLE_S
            self.killed = not self._cleans_up
        self._tree.signal_group(signal.SIGKILL)
        self._tree.signal_all(signal.SIGKILL)
        if now > self._killing_until:
            self.hopeless = len(self._tree.living())
