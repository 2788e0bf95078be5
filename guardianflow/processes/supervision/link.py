"""The near end of a supervisor: started, listened to, told, and killed where it doesn't answer."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO

from guardianflow.exceptions import RunFailedError
from guardianflow.processes.control_group import ControlGroup
from guardianflow.processes.supervision.frames import (
    COULD_NOT_START,
    ENDED,
    STARTED,
    STDERR,
    STDOUT,
    Facts,
    Frames,
    Job,
)
from guardianflow.processes.supervision.guard import Guard
from guardianflow.processes.supervision.streams import widen

__all__ = ["PROGRAM", "SupervisorLink"]

PROGRAM = (sys.executable, "-P", "-m", "guardianflow.processes.supervision.supervisor")
"""What is started; ``-P``: nothing is imported from the folder that we happen to be in."""

_READ_BYTES = 1 << 20
_AHEAD = 16
_LOOK_AGAIN_S = 0.002
_GONE_S = 5.0
_LOST = "its supervisor was killed (SIGKILL, as the system does when memory runs out), and it was ended with it"

Message = tuple[bytes, bytes]


class SupervisorLink:
    """A supervisor process and what it says.

    A thread of its own listens: a signal that becomes an exception in the middle of a message would
    otherwise lose the rest of it.

    Args:
        job: What it is to run.
        program: What is started; for tests.

    Attributes:
        pid: The script's, once it runs; 0 before.
        refusal: Why the script could not be started, or empty.
        facts: How the script ended, once the supervisor has said so.
    """

    def __init__(self, job: Job, *, program: Sequence[str] = PROGRAM) -> None:
        self._program = list(program)
        self.pid = 0
        self.refusal = ""
        self.facts: Facts | None = None
        self._job = job
        self._group = ControlGroup()
        self._guard: Guard | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._closed = False
        self._complaint = ""
        self._briefed = threading.Event()
        self._began = 0.0
        self._heard = 0.0
        self._seen = {STDOUT: 0, STDERR: 0}
        self._listener = threading.Thread(target=self._listen, daemon=True, name="guardianflow-supervisor")

    @property
    def stopped(self) -> str:
        """Which limit was kept at this end, since the supervisor could not; empty where none was."""
        return self._guard.stopped if self._guard is not None else ""

    def start(self) -> None:
        """Start the supervisor, and the script through it.

        Raises:
            RunFailedError: The supervisor itself can't be started.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        try:
            self._process = subprocess.Popen(
                self._program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                env={**os.environ, **self._group.environment},
                start_new_session=True,  # Ctrl-C reaches this process alone, and it passes it on
            )
        except OSError as error:
            raise RunFailedError(f"{self._program[0]} can't be started to supervise the script: {error}") from error
        self._began = self._heard = time.monotonic()
        self._guard = Guard(self._job, self._process.pid, self._group, self._silent_s)
        self._listener.start()

    def receive(self, timeout_s: float) -> Message | None:
        """The next message; ``(b"", b"")`` where none came in time, ``None`` after the last."""
        try:
            return self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return b"", b""

    def tell(self, word: bytes) -> None:
        """Pass a signal on."""
        self._briefed.wait(_GONE_S)
        self._write(word)

    def close(self) -> None:
        """Let go of it, which makes it end whatever is left, and see it gone."""
        self._closed = True
        process, guard = self._process, self._guard
        if process is None or guard is None:
            self._group.remove()
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GONE_S)
        guard.close()
        if process.returncode is None or self.facts is None:
            self.kill()
        self._group.remove()
        self._listener.join(_GONE_S)
        if not self._listener.is_alive() and process.stdout is not None:
            process.stdout.close()
        if self._errors is not None:
            self._errors.seek(0)
            self._complaint = self._errors.read().decode("utf-8", errors="replace").strip()
            self._errors.close()

    def kill(self) -> None:
        """End a supervisor that doesn't do it, and all that it was to end."""
        if self._process is not None and self._guard is not None:
            self._guard.end()
            self._process.wait()

    def complaint(self) -> str:
        """What the supervisor itself had to complain of, once it is closed."""
        code = self._process.returncode if self._process else None
        return self._complaint.splitlines()[-1] if self._complaint else f"it ended with {code}"

    def facts_of_the_lost(self) -> Facts:
        """What is known of a script whose supervisor was killed."""
        lost = Facts(
            signal=signal.SIGKILL,
            stopped="terminated",
            reason=_LOST if self._was_killed() else f"its supervisor failed, and it was ended: {self.complaint()}",
            wall_s=time.monotonic() - self._began,
            stdout_bytes=self._seen[STDOUT],
            stderr_bytes=self._seen[STDERR],
            remarks=["its supervisor was lost: time and memory are not known, and the logs may lack their end"],
        )
        return self._guard.told(lost) if self._guard is not None else lost

    def _was_killed(self) -> bool:
        return self._process is not None and self._process.returncode == -signal.SIGKILL

    def _silent_s(self) -> float | None:
        """How long it has said nothing though we listen; ``None`` when it has said how the script ended."""
        if self.facts is not None:
            return None
        return 0.0 if self._messages.qsize() else time.monotonic() - self._heard

    def _write(self, data: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            view = memoryview(data)
            with contextlib.suppress(OSError, ValueError):  # it is gone, which the listener notices
                while view:
                    view = view[self._process.stdin.write(view) :]

    def _listen(self) -> None:
        frames = Frames()
        pipe = self._process.stdout if self._process else None
        if pipe is None:  # pragma: no cover - the thread starts after the process
            return
        widen(pipe.fileno())
        job = self._job.to_bytes()
        self._write(len(job).to_bytes(4, "big") + job)  # here, since no signal can cut it short
        self._briefed.set()
        while data := pipe.read(_READ_BYTES):
            self._heard = time.monotonic()
            for kind, payload in frames.feed(data):
                self._take(kind, payload)
        self._messages.put(None)

    def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == COULD_NOT_START:
            self.refusal = json.loads(payload)["error"]
        elif kind == ENDED:
            facts = Facts(**json.loads(payload))
            self.facts = self._guard.told(facts) if self._guard is not None else facts
        elif kind == STARTED:
            self.pid = json.loads(payload)["pid"]
            self._messages.put((kind, str(self.pid).encode("ascii")))
        else:
            self._seen[kind] += len(payload)
            while self._messages.qsize() > _AHEAD and not self._closed:  # its backlog is bounded, and so is ours
                time.sleep(_LOOK_AGAIN_S)
            self._messages.put((kind, payload))
