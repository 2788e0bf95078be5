"""The run of one notebook, seen from outside: the clock, the signals and the way to stop it.

The kernel is driven in a thread of its own with an event loop of its own. So it is the same whether
the caller is the main thread, another thread or a cell of a running notebook. The caller's thread
waits, hands on events, watches the clock and answers signals.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from guardianflow.execution.engine.kernel_process import KernelProcesses
from guardianflow.execution.engine.outcome import CellError, NotebookEvent, NotebookResult, NotebookStatus
from guardianflow.processes.interrupts import handled_by

__all__ = ["NotebookSession", "SessionOptions", "StopReason"]

log = logging.getLogger(__name__)

StopReason = Literal["timeout", "interrupted", "terminated"]
Phase = Literal["starting", "idle", "cell", "closing"]

_TERM_GRACE_S = 5.0
_POLL_S = 0.05
_NOTE_S = 1.0


@dataclass(frozen=True)
class SessionOptions:
    """What the caller asked for; see :func:`guardianflow.execution.engine.notebook.execute_notebook`."""

    output: Path
    template: str = ""
    template_sha256: str = ""
    timeout_s: float | None = None
    stop_grace_s: float = 20.0
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    on_event: Callable[[NotebookEvent], None] | None = None


class _Done:
    """The work is over."""


class NotebookSession:
    """One run: what was asked, where it stands, and why it was stopped.

    Attributes:
        options: What was asked.
        processes: The kernel and what it started.
        stop_reason: Why it is being stopped, once it is.
        signum: The signal that stopped it.
        error: Why it did not reach its end, written by the thread that drives the kernel.
        kernel_died: Whether the kernel process ended on its own.
        result: Set at the end.
    """

    def __init__(self, options: SessionOptions) -> None:
        self.options = options
        self.processes = KernelProcesses()
        self.stop_reason: StopReason | None = None
        self.signum: int | None = None
        self.error: CellError | None = None
        self.kernel_died = False
        self.cell_timed_out = False
        self.result: NotebookResult | None = None
        self._started = time.monotonic()
        self._inbox: queue.SimpleQueue[NotebookEvent | signal.Signals | _Done] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._phase: Phase = "starting"
        self._interruptible = False
        self._interrupted = False
        self._cell: int | None = None
        self._stopped_in: int | None = None
        self._deadlines: list[tuple[float, int]] = []
        self._handling_signals = False
        self._listener = options.on_event

    # ---- what the kernel's thread reports ------------------------------------------------------

    def kernel_started(self, pid: int | None, cells: int) -> None:
        """The kernel process is there."""
        self.processes.started(pid)
        self.emit(NotebookEvent("kernel-started", pid=pid, cells=cells))

    def kernel_ready(self) -> None:
        """The kernel answers."""
        with self._lock:
            self._phase = "idle"

    def may_start_cell(self, index: int) -> bool:
        """Claim the next cell; refused once a stop was asked for."""
        with self._lock:
            if self.stop_reason is not None:
                return False
            self._phase, self._interruptible, self._cell = "cell", False, index
            return True

    def cell_is_executing(self) -> None:
        """The kernel has begun the cell: from now on an interrupt reaches its code."""
        self._interruptible = True

    def cell_ended(self, event: NotebookEvent) -> None:
        """The cell is over, in whatever way."""
        with self._lock:
            self._phase, self._interruptible, self._cell = "idle", False, None
        self.emit(event)

    def closing(self) -> None:
        """All cells that were to run have run; only the shutdown is left."""
        with self._lock:
            self._phase = "closing"

    def emit(self, event: NotebookEvent) -> None:
        """Hand an event to the caller's thread."""
        if self._listener is not None:
            self._inbox.put(event)

    @property
    def seconds(self) -> float:
        """Wall-clock time since the session was made."""
        return round(time.monotonic() - self._started, 3)

    def status(self, *, all_cells_ran: bool) -> NotebookStatus:
        """How the run ended. A stop that came when all was done changes nothing."""
        if self.stop_reason is not None and (self._interrupted or self.error is not None or not all_cells_ran):
            return self.stop_reason
        if self.error is None:
            return "completed"
        if self.cell_timed_out:
            return "timeout"
        return "killed" if self.kernel_died else "failed"

    def reason_to_end(self) -> CellError | None:
        """Why it did not reach its end. A stop says so itself, whatever the cell made of the interrupt."""
        if self.stop_reason is None:
            return self.error
        if self.stop_reason == "timeout":
            name, why = "TimeoutError", f"the notebook reached its limit of {self.options.timeout_s:g} s"
        else:
            name, why = "KeyboardInterrupt", f"stopped by {signal.Signals(self.signum or signal.SIGINT).name}"
        cell = self.error.cell_index if self.error is not None else self._stopped_in
        return CellError(name, why, cell, self.error.traceback if self.error is not None else "")

    # ---- the caller's thread -------------------------------------------------------------------

    def run(self, work: Callable[[], None]) -> None:
        """Do ``work`` in a thread of its own until it ends; raise what it raised."""
        failures: list[BaseException] = []

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
                failures.append(error)
            finally:
                self._inbox.put(_Done())

        # An empty context: an event loop kept in the caller's context must not be taken over.
        thread = threading.Thread(
            target=contextvars.Context().run, args=(guarded,), name="guardianflow-notebook", daemon=True
        )
        with self.signals():
            thread.start()
            try:
                self._wait()
            except BaseException:
                self.stop("interrupted", grace_s=0.0)
                self.processes.kill()
                raise
            finally:
                thread.join()
        if failures:
            raise failures[0]

    def stop(self, reason: StopReason, *, grace_s: float | None = None) -> None:
        """Ask the notebook to end: SIGINT to the running cell, later SIGTERM, then SIGKILL.

        A second call, as by a second Ctrl-C, skips the rest of the waiting.
        """
        now = time.monotonic()
        with self._lock:
            if self._phase == "closing":
                return
            again = self.stop_reason is not None
            self.stop_reason = self.stop_reason or reason
            self._stopped_in = self._cell if self._stopped_in is None else self._stopped_in
            wait = self.options.stop_grace_s if grace_s is None else grace_s
            if again or self._phase == "starting":
                wait = 0.0
            self._deadlines = [(now + wait, signal.SIGTERM), (now + wait + (0.5 if again else _TERM_GRACE_S), -1)]

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP, and give the handlers back at the end.

        In the main thread only. A signal that the caller's process ignores stays ignored (``nohup``,
        background jobs). One that came too late to stop anything is raised again at the end.
        """
        if self._handling_signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        received: list[int] = []

        def note(signum: int, _frame: FrameType | None) -> None:
            received.append(signum)
            self._inbox.put(signal.Signals(signum))  # SimpleQueue.put is reentrant

        try:
            with handled_by(note):
                self._handling_signals = True
                yield
        finally:
            self._handling_signals = False
            ended_by_it = self.result is not None and self.result.status in ("interrupted", "terminated")
            if received and not ended_by_it:
                signal.raise_signal(received[-1])

    def _wait(self) -> None:
        while True:
            try:
                item = self._inbox.get(timeout=self._until_next())
            except queue.Empty:
                item = None
            if isinstance(item, _Done):
                return
            if isinstance(item, NotebookEvent):
                self._deliver(item)
            elif item is not None:
                self.signum = self.signum or int(item)
                self.stop("interrupted" if item == signal.SIGINT else "terminated")
            limit = self.options.timeout_s
            if limit is not None and self.stop_reason is None and self.seconds >= limit:
                self.stop("timeout")
            self._escalate()
            self.processes.note()

    def _until_next(self) -> float:
        if self.stop_reason is not None:
            return _POLL_S
        limit = self.options.timeout_s
        return _NOTE_S if limit is None else max(0.0, min(_NOTE_S, limit - self.seconds))

    def _escalate(self) -> None:
        """Send what is due. SIGINT goes out once, and only while the cell's code can hear it."""
        if self.stop_reason is None or self._phase == "closing":
            return
        with self._lock:
            interrupt = self._phase == "cell" and self._interruptible and not self._interrupted
            self._interrupted = self._interrupted or interrupt
        if interrupt:
            self.processes.send(signal.SIGINT)
            return
        if self._deadlines and time.monotonic() >= self._deadlines[0][0] and self.processes.pid is not None:
            _, signum = self._deadlines.pop(0)
            if signum < 0:
                self.processes.kill()
            else:
                self.processes.send(signum)

    def _deliver(self, event: NotebookEvent) -> None:
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception:
            # A progress display that breaks must not end a training of ten hours.
            log.exception("the listener for notebook events failed; it gets no more of them")
            self._listener = None
