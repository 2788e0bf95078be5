"""A real PostgreSQL of our own: on loopback, in a temporary folder, gone with the test session."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from guardianflow.stack.postgres import Identity, find_programs, identity, make_cluster, reachable

_PR_SET_PDEATHSIG = 1


class PostgresServer:
    """One running server.

    Args:
        programs: Folder of ``initdb`` and ``postgres``. Default: the one that ``stack up`` takes.
        durable: Wait for the disk at each commit, as a real server does. Tests that kill processes
            of ours don't need it; a benchmark does.

    Raises:
        MissingDependencyError: There are no such programs; the message says how to get them.
    """

    def __init__(self, programs: Path | None = None, *, durable: bool = False) -> None:
        programs = programs or find_programs()
        self._durable = durable
        self._password = secrets.token_hex(8)
        # Neither pytest's tmp_path nor a TMPDIR of root's own: closed to the other user that root must become.
        place = "/tmp" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="guardianflow-pg-", dir=place))
        self._log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: Identity = identity()
        if self._identity:  # PostgreSQL refuses to run as root
            os.chown(self.folder, self._identity["user"], self._identity["group"])
        self._programs = reachable(programs, self.folder / "programs", self._identity)
        self.port = 0

    def start(self) -> None:
        """Make the cluster and start the server; returns when it answers."""
        try:
            options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-sync"]
            data = self.folder / "data"
            make_cluster(self._programs, data, password=self._password, who=self._identity, options=options)
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self) -> None:
        """As an administrator does it in a hurry: connections are cut off, the same port answers again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(20)
        for _ in range(20):  # the port may be a moment in coming free
            if self._launch_at(self.port):
                return
        raise RuntimeError(f"PostgreSQL did not come back:\n{self._log.read_text()[-2000:]}")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """For the block it takes connections and says nothing, as a machine under too much load does."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        server.suspend()  # first, so that it starts no more
        stopped = [server, *server.children(recursive=True)]
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in reversed(stopped):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def url(self, database: str) -> str:
        """The URL of one database."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    def create(self, *, template: str = "template1") -> str:
        """Make a database and return its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run one statement as the administrator."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _launch(self) -> None:
        if not any(self._launch_at(_free_port()) for _ in range(3)):
            raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")

    def _launch_at(self, port: int) -> bool:
        self.port = port
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "on" if self._durable else "off",
            "max_connections": 200,
        }
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data")]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread of ours runs yet
                **self._identity,
            )
        return self._answers(30)

    def _answers(self, seconds: float) -> bool:
        import psycopg

        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return True
            except psycopg.OperationalError:
                time.sleep(0.05)
        return False


def _die_with_parent() -> None:
    # A killed test session must leave no server behind.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
