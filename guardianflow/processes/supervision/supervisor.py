"""The program that stands between us and a script: ``python -P -m guardianflow.processes.supervision.supervisor``.

It adopts whatever the script leaves behind, and ends it; it takes what the script prints, however much, and ends
all of it if whoever started it goes away. It is told what to do on stdin and answers on stdout, in the frames of
:mod:`guardianflow.processes.supervision.frames`. The script starts before anything heavy is imported here.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from guardianflow.processes.keeper import keep
from guardianflow.processes.supervision.ending import Ending
from guardianflow.processes.supervision.frames import (
    COULD_NOT_START,
    ENDED,
    INTERRUPT,
    STARTED,
    STDERR,
    STDOUT,
    Facts,
    Job,
    frame,
)
from guardianflow.processes.supervision.output_log import OutputLog
from guardianflow.processes.supervision.streams import Backlog, LiveCopy, ScriptStream, widen
from guardianflow.processes.tree import LINUX, ProcessTree, adopt_orphans, die_with_parent

_SAMPLE_S = 0.25 if LINUX else 1.0  # elsewhere all processes of the machine are searched
_PAUSE_S, _SHORT_PAUSE_S = 0.005, 0.001
_MUCH = 256 * 1024
_PATIENCE_S = 10.0
_LIVE_PATIENCE_S, _LIVE_PATIENCE_STOPPED_S = 10.0, 1.0
_MB = 1e6
_SIGTERM = 0


class Supervisor:
    """One script, from its start until nothing of it is left.

    Args:
        job: What to run.
        control: Where we are told to end it.
        report: Where we say what goes on.
        adopts: Whether descendants that lose their parent become our children.
    """

    def __init__(self, job: Job, control: int, report: int, *, adopts: bool) -> None:
        self.job = job
        self._adopts = adopts
        self._control = control
        self._report = report
        self._parent = os.getppid()
        self._parent_gone = False
        self._sending = memoryview(b"")
        self._status: int | None = None
        self._childless = False
        self._ended_at = 0.0
        self._sample_due = 0.0
        self._pause = 0.0
        self._pump_due = 0.0
        self._told: list[int] = []
        self._held_mb = 0.0
        self._redaction_failed = ""
        self._gone_at = 0.0
        os.set_blocking(control, False)
        os.set_blocking(report, False)
        widen(report)
        self._wake, self._wake_end = os.pipe()
        for fd in (self._wake, self._wake_end):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._told.append(_SIGTERM))  # heard when it suits us
        for name in ("SIGINT", "SIGQUIT"):  # a handler, not SIG_IGN, which the script would inherit
            signal.signal(getattr(signal, name), lambda *_: None)

    def run(self) -> None:
        """All of it."""
        try:
            pid, streams = self._start()
        except RefusalError as error:
            self._send_all(frame(COULD_NOT_START, {"error": str(error)}))
            return
        self._pid = pid
        self._tree = ProcessTree(pid, adopts=self._adopts)
        self._ending = Ending(self.job, self._tree)
        loader = threading.Thread(target=self._load_redaction, daemon=True)
        self._streams = streams
        loader.start()
        while not self._over():
            self._wait()
            self._hear()
            self._reap()
            self._watch()
            self._pump()
            self._send()
        loader.join()
        for stream in self._streams:
            if not stream.log.failed and self._redaction_failed:
                stream.log.failed = f"{stream.log.path.name} was not written: {self._redaction_failed}"
            stream.log.close()
            stream.live.close()
        self._send_all(frame(ENDED, asdict(self._result())))

    # --- its start

    def _start(self) -> tuple[int, list[ScriptStream]]:
        job, this = self.job, os.getpid()
        folder = Path(job.folder)
        live = Path(job.live) if job.live else None
        secrets = [secret.encode("utf-8", "surrogatepass") for secret in job.secrets]
        out, err = os.pipe(), os.pipe()
        with contextlib.ExitStack() as ends:
            for fd in (out[1], err[1]):
                ends.callback(os.close, fd)
                widen(fd)
            self._began = time.monotonic()
            try:
                process = subprocess.Popen(
                    job.argv,
                    cwd=job.cwd,
                    env=job.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out[1],
                    stderr=err[1],
                    start_new_session=True,
                    preexec_fn=lambda: _in_the_child(this),  # noqa: PLW1509 - no other thread runs yet
                )
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                raise RefusalError(_why_not(error, job)) from error
        os.write(self._report, frame(STARTED, {"pid": process.pid}))  # the pipe is empty, and this is known at once
        process.returncode = 0  # waiting for it is ours, not that of Popen
        self._backlog = Backlog()
        return process.pid, [
            ScriptStream(
                kind,
                fd,
                log=OutputLog(folder / f"{name}.log", limit=job.log_bytes),
                backlog=self._backlog if job.forward else None,
                live=LiveCopy(live / name if live else None),
                secrets=secrets,
            )
            for kind, name, fd in ((STDOUT, "stdout", out[0]), (STDERR, "stderr", err[0]))
        ]

    def _load_redaction(self) -> None:
        """In a thread: a script that prints at once need not wait for it."""
        try:
            from guardianflow.processes.supervision.redaction import Redactor

            redactor = Redactor(self.job.secrets)
            for stream in self._streams:
                stream.log.redact = redactor.stream().data
        except Exception as error:  # noqa: BLE001 - without it the log stays empty, and the run goes on
            self._redaction_failed = f"secrets could not be taken out of it ({type(error).__name__}: {error})"

    # --- its course

    def _wait(self) -> None:
        """Until something happens.

        A script that prints is left alone for some milliseconds, with nobody waiting at its pipe: to wake
        a reader costs its writer more than the write itself.
        """
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if not self._parent_gone:
            poll.register(self._control, select.POLLIN)
        if (self._sending or self._backlog) and not self._parent_gone:
            poll.register(self._report, select.POLLOUT)
        for stream in self._streams:
            if stream.live.pending:
                poll.register(stream.live.fd, select.POLLOUT)
            elif stream.open and not self._pause:
                poll.register(stream.fd, select.POLLIN)
        now = time.monotonic()
        until = min(now + (self._pause or _SAMPLE_S), self._ending.due)
        if self.job.timeout_s and self._status is None:
            until = min(until, self._began + self.job.timeout_s)
        if any(stream.log.redact is not None and stream.log.waiting for stream in self._streams) and not self._pause:
            until = now
        poll.poll(max(0.0, (until - now) * 1000))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            words = b"" if self._parent_gone else os.read(self._control, 16)
            self._told += words
            if not words and not self._parent_gone:
                self._lose_parent()
        while self._told:
            word = self._told.pop(0)
            if word == _SIGTERM and os.getppid() != self._parent:  # sent by the system when it died
                self._lose_parent()
            else:
                self._end("interrupted" if word == INTERRUPT[0] else "terminated")

    def _lose_parent(self) -> None:
        if self._parent_gone:
            return
        self._parent_gone = True
        self._sending = memoryview(b"")
        self._end("abandoned")

    def _end(self, stopped: str) -> None:
        if not self._childless:
            self._ending.begin(stopped)
        else:  # only what it printed is on its way still
            self._backlog.give_up()
            for stream in self._streams:
                stream.live.close()

    def _reap(self) -> None:
        while not self._childless:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = self._tree.adopts or not self._tree.living()
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._status = status
                self._ended_at = time.monotonic()
                self._pump_due = 0.0

    def _watch(self) -> None:
        now = time.monotonic()
        if self._status is not None:
            if not self._childless:
                self._ending.clean_up()
                self._ending.tick()
            return
        if now >= self._sample_due:
            self._sample_due = now + _SAMPLE_S
            held = self._tree.memory_mb()
            if 0 < self.job.memory_mb < held and not self._ending.stopped:
                self._held_mb = held
                self._ending.begin("out_of_memory")
        if 0 < self.job.timeout_s <= now - self._began and not self._ending.stopped:
            self._ending.begin("timeout")
        self._ending.tick()

    def _pump(self) -> None:
        now = time.monotonic()
        if now < self._pump_due:
            return
        gone = self._childless or self._ending.hopeless
        self._gone_at = self._gone_at or (now if gone else 0.0)
        patience = _LIVE_PATIENCE_STOPPED_S if self._ending.stopped else _LIVE_PATIENCE_S
        most = 0
        for stream in self._streams:
            taken = stream.pump()
            most = max(most, taken)
            if gone and not taken and not stream.live.pending:
                stream.close()  # none of its processes is left, and whoever else holds the pipe says nothing now
            if gone and now > max(self._gone_at, stream.live.moved_at) + patience:
                stream.live.close()  # a terminal that is held doesn't hold the end of the run
        for stream in self._streams:
            stream.log.work(idle=most == 0)
        self._pause = 0.0 if not most or gone else _SHORT_PAUSE_S if most > _MUCH else _PAUSE_S
        self._pump_due = time.monotonic() + self._pause

    def _send(self) -> None:
        try:
            while not self._parent_gone:
                if not self._sending:
                    if not self._backlog:
                        return
                    self._sending = memoryview(frame(*self._backlog.take()))
                self._sending = self._sending[os.write(self._report, self._sending) :]
        except BlockingIOError:
            return
        except OSError:
            self._lose_parent()

    def _over(self) -> bool:
        if self._status is None and not self._ending.hopeless:
            return False
        if not self._childless and not self._ending.hopeless:
            return False
        if any(stream.open or stream.live.pending for stream in self._streams):
            return False
        return self._parent_gone or not (self._sending or self._backlog)

    # --- its end

    def _send_all(self, data: bytes) -> None:
        os.set_blocking(self._report, True)
        view = self._sending.tobytes() + data
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(self._report, view) :]

    def _result(self) -> Facts:
        status = self._status
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        out, err = self._streams
        return Facts(
            exit_code=os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0,
            stopped=self._ending.stopped,
            killed=self._ending.killed,
            held_mb=self._held_mb,
            hopeless=self._ending.hopeless,
            wall_s=(self._ended_at or time.monotonic()) - self._began,
            cpu_s=used.ru_utime + used.ru_stime,
            peak_memory_mb=max(self._tree.peak_mb, _max_rss_mb(resource.RUSAGE_CHILDREN)),
            left_behind=self._ending.left_behind,
            stdout_bytes=out.total,
            stderr_bytes=err.total,
            unread_bytes=self._backlog.lost,
            remarks=[stream.log.failed for stream in self._streams if stream.log.failed],
        )


class RefusalError(Exception):
    """Why the script could not be started."""


def _in_the_child(supervisor: int) -> None:
    die_with_parent(signal.SIGKILL)
    if os.getppid() != supervisor:  # it ended before we asked
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job has it ignored


def _why_not(error: Exception, job: Job) -> str:
    """A sentence on why a program could not be started."""
    program = job.argv[0]
    if isinstance(error, OSError) and error.filename == job.cwd and error.filename != program:
        return f"the folder to run in can't be entered ({error.strerror}): {job.cwd}"
    if isinstance(error, FileNotFoundError):
        there = Path(job.cwd, program).exists() if "/" in program else False
        what = "names an interpreter in its first line that is not there" if there else "is not there, or not on PATH"
        return f"{program} can't be started: it {what}"
    if isinstance(error, PermissionError):
        return f"{program} can't be started: it is not executable (chmod +x), or its folder is closed to you"
    if isinstance(error, OSError) and error.strerror == "Exec format error":
        return f"{program} can't be started: it is no program for this machine, and has no first line such as #!/bin/sh"
    return f"{program} can't be started: {getattr(error, 'strerror', None) or error}"


def _max_rss_mb(who: int) -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / _MB


def _read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def main() -> int:
    """Run what stdin asks for."""
    keep(if_alone=signal.SIGTERM, patience_s=_PATIENCE_S, grace_s=0.0)
    control, report = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # whatever prints here doesn't spoil the frames
    os.close(null)
    adopts = adopt_orphans()
    try:
        size = int.from_bytes(_read_exactly(control, 4), "big")
        job = Job.from_bytes(_read_exactly(control, size))
    except EOFError:  # whoever started us is gone again
        return 1
    Supervisor(job, control, report, adopts=adopts).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
