"""A script watched from threads of this process, where there can be no supervisor (Windows).

The same face as :class:`~guardianflow.processes.supervision.link.SupervisorLink`. What it can't do: find a process
that nobody saw before its parent ended, and end the script when this process is killed. Nothing is shown live.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

import psutil

from guardianflow.processes.interrupts import send_to_group
from guardianflow.processes.keeper import KILL
from guardianflow.processes.process_watch import ProcessWatch
from guardianflow.processes.supervision.frames import INTERRUPT, STARTED, STDERR, STDOUT, Facts, Job
from guardianflow.processes.supervision.link import Message
from guardianflow.processes.supervision.output_log import OutputLog
from guardianflow.processes.supervision.redaction import Redactor
from guardianflow.processes.supervision.streams import Backlog, LineBlocks

__all__ = ["DirectLink"]

_READ_BYTES = 1 << 16
_POLL_S = 0.05
_DRAIN_S = 2.0


class DirectLink:
    """A script and the threads that watch it.

    Attributes:
        pid: The script's, once it runs; 0 before.
        refusal: Why the script could not be started, or empty.
        facts: How the script ended.
        stopped: Empty: nobody keeps a limit in place of these threads.
    """

    stopped = ""

    def __init__(self, job: Job) -> None:
        self.pid = 0
        self.refusal = ""
        self.facts: Facts | None = None
        self._job = job
        self._told: SimpleQueue[bytes] = SimpleQueue()
        self._changed = threading.Condition()
        self._backlog = Backlog()
        self._over = False
        self._began = time.monotonic()
        self._logs = {
            kind: OutputLog(Path(job.folder, f"{name}.log"), limit=job.log_bytes)
            for kind, name in ((STDOUT, "stdout"), (STDERR, "stderr"))
        }
        self._threads: list[threading.Thread] = []
        self._announced = False
        self._cpu_s = 0.0

    def start(self) -> None:
        """Start the script; what stands against it is in ``refusal``."""
        windows = sys.platform == "win32"
        try:
            process = subprocess.Popen(
                self._job.argv,
                cwd=self._job.cwd,
                env=self._job.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=not windows,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) if windows else 0,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.refusal = f"{self._job.argv[0]} can't be started in {self._job.cwd}: {error}"
            self._over = True
            for written in self._logs.values():
                written.close()
            return
        self.pid = process.pid
        redactor = Redactor(self._job.secrets)
        readers = []
        for kind, pipe in ((STDOUT, process.stdout), (STDERR, process.stderr)):
            self._logs[kind].redact = redactor.stream().data
            readers.append(threading.Thread(target=self._read, args=(kind, pipe), daemon=True))
        self._threads = [*readers, threading.Thread(target=self._watch, args=(process, readers), daemon=True)]
        for thread in self._threads:
            thread.start()

    def receive(self, timeout_s: float) -> Message | None:
        """The next message; ``(b"", b"")`` where none came in time, ``None`` after the last."""
        if self.pid and not self._announced:
            self._announced = True
            return STARTED, str(self.pid).encode("ascii")
        with self._changed:
            self._changed.wait_for(lambda: self._backlog or self._over, timeout_s)
            if self._backlog:
                return self._backlog.take()
            return None if self._over else (b"", b"")

    def tell(self, word: bytes) -> None:
        """End it; once more: faster."""
        self._told.put(word)

    def close(self) -> None:
        """End what is left, and see it gone."""
        if not self._over:
            self.kill()
        for thread in self._threads:
            thread.join(_DRAIN_S)

    def kill(self) -> None:
        """End it at once."""
        for _ in range(3):
            self._told.put(b"")

    def complaint(self) -> str:
        """What went wrong here."""
        return "it did not start"

    def facts_of_the_lost(self) -> Facts:
        """What is known of a script that doesn't end."""
        return self._facts(
            None, "terminated", 0.0, ProcessWatch(self.pid), wall_s=time.monotonic() - self._began, hopeless=1
        )

    def _read(self, kind: bytes, pipe: IO[bytes]) -> None:
        blocks = LineBlocks([secret.encode("utf-8", "surrogatepass") for secret in self._job.secrets])
        with pipe:
            while data := pipe.read(_READ_BYTES):
                self._keep(kind, blocks.take(data))
        self._keep(kind, blocks.rest())

    def _keep(self, kind: bytes, blocks: list[bytes]) -> None:
        for block in blocks:
            self._logs[kind].add(block)
            self._logs[kind].work(idle=True)
        with self._changed:
            for block in blocks if self._job.forward else ():
                self._backlog.add(kind, block)
            self._changed.notify_all()

    def _watch(self, process: subprocess.Popen[bytes], readers: list[threading.Thread]) -> None:
        watch = ProcessWatch(process.pid)
        stopped, held = self._until_the_end(process, watch)
        wall = time.monotonic() - self._began
        watch.end()
        for reader in readers:
            reader.join(_DRAIN_S)  # whoever else holds the pipe is not waited for
        for written in self._logs.values():
            written.close()
        self.facts = self._facts(process.returncode, stopped, held, watch, wall_s=wall)
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _until_the_end(self, process: subprocess.Popen[bytes], watch: ProcessWatch) -> tuple[str, float]:
        stopped, held, due = "", 0.0, float("inf")
        steps: list[tuple[signal.Signals, float]] = []
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
                return stopped, held
            now = time.monotonic()
            held_now = watch.read()
            with contextlib.suppress(psutil.Error):
                self._cpu_s = sum(psutil.Process(process.pid).cpu_times()[:4])
            with contextlib.suppress(Empty):
                word = self._told.get_nowait()
                due = 0.0
                stopped = stopped or ("interrupted" if word == INTERRUPT else "terminated")
            if not stopped and 0 < self._job.timeout_s < now - self._began:
                stopped, due = "timeout", 0.0
            if not stopped and 0 < self._job.memory_mb < held_now:
                stopped, due, held = "out_of_memory", 0.0, held_now
            if stopped and not steps:
                steps = self._steps(stopped)
            if now >= due:
                number, grace = steps[0]
                steps = steps[1:] or steps
                if number in {signal.SIGTERM, KILL}:
                    watch.signal(number)
                else:
                    send_to_group(process.pid, number)
                due = now + grace

    def _steps(self, stopped: str) -> list[tuple[signal.Signals, float]]:
        """Signals, and how long each has; where there is no such signal, SIGTERM, which ends it."""
        interrupt = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT)
        steps = [(signal.SIGTERM, self._job.terminate_grace_s), (KILL, _POLL_S)]
        return [(interrupt, self._job.interrupt_grace_s), *steps] if stopped == "interrupted" else steps

    def _facts(
        self, code: int | None, stopped: str, held_mb: float, watch: ProcessWatch, *, wall_s: float, hopeless: int = 0
    ) -> Facts:
        return Facts(
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else 0,
            stopped=stopped,
            held_mb=held_mb,
            hopeless=hopeless,
            wall_s=wall_s,
            cpu_s=self._cpu_s,
            peak_memory_mb=watch.peak_mb,
            stdout_bytes=self._logs[STDOUT].total,
            stderr_bytes=self._logs[STDERR].total,
            unread_bytes=self._backlog.lost,
            remarks=[written.failed for written in self._logs.values() if written.failed],
        )
