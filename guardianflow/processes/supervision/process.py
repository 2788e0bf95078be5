"""A script run as a child that is watched: its output kept, its limits held, nothing of it left when it has ended."""

from __future__ import annotations

import logging
import os
import secrets as secrets_module
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guardianflow.exceptions import InputError, RunFailedError
from guardianflow.processes.interrupts import signals_wait
from guardianflow.processes.supervision.frames import INTERRUPT, MARKER, STARTED, STDERR, STDOUT, TERMINATE, Job
from guardianflow.processes.supervision.link import SupervisorLink
from guardianflow.processes.supervision.output_log import OutputLog
from guardianflow.processes.supervision.words import last_words, reason_of, signal_name

__all__ = ["Ended", "Limits", "SupervisedProcess"]

if TYPE_CHECKING:
    from guardianflow.processes.supervision.direct import DirectLink

log = logging.getLogger(__name__)

_STREAMS = {STDOUT: "stdout", STDERR: "stderr"}
_TICK_S = 0.5
_BEYOND_S = 6.0
_FIGURES = ("wall_s", "cpu_s", "peak_memory_mb", "left_behind", "stdout_bytes", "stderr_bytes", "unread_bytes")

OnOutput = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Limits:
    """What a script may take, and how long it has to end by itself when it is told to.

    Attributes:
        timeout_s: A script that takes longer is ended, s; 0: no limit.
        memory_mb: A script that holds more together with its children is ended, MB (10^6 bytes); 0: no limit.
        interrupt_grace_s: From SIGINT until SIGTERM follows, s.
        terminate_grace_s: From SIGTERM until SIGKILL follows, s.
        log_bytes: Most that is kept of each stream: its first and its last half.
    """

    timeout_s: float = 0
    memory_mb: float = 0
    interrupt_grace_s: float = 4
    terminate_grace_s: float = 4
    log_bytes: int = 8_000_000


@dataclass(frozen=True)
class Ended:
    """How a script ended, and what it took.

    Attributes:
        exit_code: As the script gave it; ``None`` where a signal ended it.
        signal: That signal (``"SIGSEGV"``), or empty.
        stopped: Who ended it, where it wasn't the script itself: ``"timeout"``, ``"out_of_memory"``,
            ``"interrupted"``, ``"terminated"``, or empty.
        reason: Why it didn't end well, in one sentence, with the next step where there is one; empty where it did.
        wall_s: From its start to its end, s.
        cpu_s: User and system time of it and of all its children that were waited for, s.
        peak_memory_mb: Most that it and its children held at once, MB; sampled, and no less than the kernel's own
            figure for the largest of them.
        left_behind: Processes that outlived the script and were ended.
        stdout_bytes: All that it wrote there, kept or not.
        stderr_bytes: The same for stderr.
        unread_bytes: What ``on_output`` didn't get since it was behind.
        remarks: What went wrong beside the script, such as a log that could not be written.
    """

    exit_code: int | None
    signal: str
    stopped: str
    reason: str
    wall_s: float
    cpu_s: float
    peak_memory_mb: float
    left_behind: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    unread_bytes: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the script ended by itself, and said that all went well."""
        return self.exit_code == 0 and not self.stopped


class SupervisedProcess:
    """One run of a script.

    Args:
        argv: What is started, never a shell's string.
        cwd: Where it runs.
        environment: The script's whole environment.
        folder: Where ``stdout.log`` and ``stderr.log`` go.
        limits: What it may take.
        on_output: Told ``("stdout" | "stderr", chunk)`` in whole lines where there are any, in :meth:`run`'s thread.
        on_start: Told the script's process id.
        on_tick: Called about twice a second while it runs, in :meth:`run`'s thread.
        secrets: Values that are taken out of the logs.
        live: Folder with the FIFOs that :class:`~guardianflow.processes.supervision.live_output.LiveOutput` made.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        folder: Path,
        limits: Limits = Limits(),
        on_output: OnOutput | None = None,
        on_start: Callable[[int], None] | None = None,
        on_tick: Callable[[], None] | None = None,
        secrets: Sequence[str] = (),
        live: Path | None = None,
    ) -> None:
        if not argv:
            raise InputError("there is nothing to run: argv is empty")
        if min(limits.timeout_s, limits.memory_mb, limits.interrupt_grace_s, limits.terminate_grace_s) < 0:
            raise InputError(f"a limit must be at least 0 (0: none), not {limits}")
        self.ended: Ended | None = None
        self._limits = limits
        self._folder = Path(folder).absolute()
        self._on_output = on_output
        self._on_start = on_start
        self._on_tick = on_tick
        self._job = Job(
            argv=[os.fspath(word) for word in argv],
            cwd=str(Path(cwd).absolute()),
            environment={**environment, MARKER: secrets_module.token_hex(16)},
            folder=str(self._folder),
            **asdict(limits),
            secrets=list(secrets),
            live=str(Path(live).absolute()) if live else "",
            forward=on_output is not None,
        )

    def run(self) -> Ended:
        """Start it, watch it, and see it ended.

        Raises:
            RunFailedError: It could not be started.
            BaseException: Whatever came while it ran (``KeyboardInterrupt``, ``Signalled``, an error of a callback);
                the script has then been ended, and :attr:`ended` says how.
        """
        link = self._make_link()
        try:
            try:
                self._follow(link)
            except BaseException as error:
                self._stop(link, error)
                raise
        finally:
            with signals_wait():
                link.close()  # the supervisor ends whatever is left when it sees this
                if link.pid or link.stopped:
                    self._conclude(link)
        if self.ended is None:
            raise RunFailedError(link.refusal or f"the script's supervisor gave up: {link.complaint()}")
        return self.ended

    def _make_link(self) -> SupervisorLink | DirectLink:
        if os.name != "nt":
            return SupervisorLink(self._job)
        from guardianflow.processes.supervision.direct import DirectLink

        return DirectLink(self._job)

    def _follow(self, link: SupervisorLink | DirectLink) -> None:
        """Pass on what comes until the end, in this thread."""
        link.start()
        tick_due = time.monotonic() + _TICK_S
        while (message := link.receive(max(0.0, tick_due - time.monotonic()))) is not None:
            self._pass_on(*message)
            if time.monotonic() >= tick_due:
                tick_due = time.monotonic() + _TICK_S
                if self._on_tick is not None and link.pid:
                    self._on_tick()

    def _pass_on(self, kind: bytes, payload: bytes) -> None:
        if kind == STARTED and self._on_start is not None:
            self._on_start(int(payload))
        elif kind in _STREAMS and self._on_output is not None:
            self._on_output(_STREAMS[kind], payload)

    def _stop(self, link: SupervisorLink | DirectLink, error: BaseException) -> None:
        """Tell it to end, as we were told to; a further signal makes it faster."""
        word = INTERRUPT if _signal_of(error) == signal.SIGINT else TERMINATE
        listens = _signal_of(error) != 0  # what an error of a callback left behind is not used again
        patience = self._limits.interrupt_grace_s + self._limits.terminate_grace_s + _BEYOND_S
        with signals_wait(lambda: link.tell(TERMINATE), and_then_raise=False):
            link.tell(word)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                message = link.receive(_TICK_S)
                if message is None:
                    return
                if not listens or deadline - time.monotonic() < _BEYOND_S / 2:  # whoever stopped us waits
                    continue
                try:
                    self._pass_on(*message)
                except Exception:  # the first error counts
                    log.exception("what the script printed while it ended could not be read")
                    listens = False
        link.kill()

    def _conclude(self, link: SupervisorLink | DirectLink) -> None:
        facts = link.facts
        if facts is None:
            link.kill()
            for name in _STREAMS.values():
                OutputLog.recover(self._folder / f"{name}.log")
            facts = link.facts_of_the_lost()
        self.ended = Ended(
            exit_code=facts.exit_code,
            signal=signal_name(facts.signal),
            stopped="terminated" if facts.stopped == "abandoned" else facts.stopped,
            reason=facts.reason
            or reason_of(
                facts,
                timeout_s=self._limits.timeout_s,
                memory_mb=self._limits.memory_mb,
                said=last_words(self._folder / "stderr.log"),
            ),
            **{name: getattr(facts, name) for name in _FIGURES},
            remarks=tuple(facts.remarks),
        )


def _signal_of(error: BaseException) -> int:
    """Which signal stands behind an exception; 0: none."""
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else int(getattr(error, "signum", 0))
