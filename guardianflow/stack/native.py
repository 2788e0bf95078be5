"""The stack as the command line sees it: started, looked at, ended.

Who runs it is the keeper (:mod:`guardianflow.stack.keeper`), a process that writes down what it sees. Each process
carries a mark in its environment, by which what outlived a keeper that was killed is found.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from guardianflow.exceptions import InputError, RunFailedError
from guardianflow.processes.tree import marked
from guardianflow.stack import keeper
from guardianflow.stack.compose import Stack
from guardianflow.stack.keeper import MARK, STATE, Seen, program_of

__all__ = ["down", "status", "up"]

_TICK_S = 0.1


def status(stack: Stack) -> list[Seen]:
    """The services as the keeper sees them; all ``stopped`` where none runs."""
    try:
        document = json.loads((stack.home / STATE).read_text(encoding="utf-8"))
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
        (stack.home / STATE).unlink(missing_ok=True)
        with (stack.home / "keeper.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-P", "-m", keeper.__name__, str(stack.folder), str(stack.home)],
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
    pid = _keeper_pid(stack)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
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
    (stack.home / STATE).unlink(missing_ok=True)
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
            if psutil.Process(pid).cmdline()[2:4] == ["-m", keeper.__name__]:
                return pid
    return 0


def _refuse_taken_ports(stack: Stack) -> None:
    import socket

    for service in stack.services.values():
        for port in service.ports if program_of(service) else ():
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
