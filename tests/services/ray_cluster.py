"""A real Ray cluster of local nodes: on loopback, in a temporary folder, gone with the test session."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from guardianflow.core.config import Settings

HOW_TO_GET_IT = "Ray is missing: pip install 'guardianflow[ray]'"
_MB = 1_000_000
_PR_SET_PDEATHSIG = 1
_PORTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")


class RayCluster:
    """A head and further nodes, a CPU each; what runs on them has the settings that are given.

    Args:
        settings: Where the runs go.
        nodes: How many nodes, the head among them.
    """

    def __init__(self, settings: Settings, *, nodes: int = 2) -> None:
        self.settings = settings
        # A short path: sockets lie in it, and a name of theirs has 107 characters at most.
        self._folder = Path(tempfile.mkdtemp(prefix="gf-ray-", dir="/tmp"))
        self._port = _free_port()
        self._dashboard = _free_port()
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._count = nodes
        self._started = 0
        self._log = self._folder / "start.log"

    @property
    def address(self) -> str:
        """Of its dashboard, which the Jobs API is behind."""
        return f"http://{_host(0)}:{self._dashboard}"

    def start(self) -> None:
        """Start all nodes; returns when each can take a job."""
        try:
            while len(self._nodes) < self._count:
                self.add_node()
        except BaseException:
            self.stop()
            raise

    def add_node(self) -> None:
        """One more node, the head if it is the first; returns when it can take a job."""
        options = ["--address", f"{_host(0)}:{self._port}"]
        if not self._nodes:
            options = [
                "--head", "--port", str(self._port), "--include-dashboard", "true", "--dashboard-host", _host(0),
                "--dashboard-port", str(self._dashboard), "--ray-client-server-port", str(_free_port()),
                "--temp-dir", str(self._folder), "--include-log-monitor", "false",
            ]  # fmt: skip
        living = self._living()
        for _ in range(3):  # a node that isn't ready within 30 s gives up, and a busy machine is that slow
            node = self._start_node(*options)
            if self._wait(node, lambda: self._living() > living):
                self._nodes.append(node)
                return
            _kill_tree(node)
        raise RuntimeError(f"Ray did not start:\n{self._log.read_text()[-3000:]}")

    def kill_node(self, place: int = -1) -> None:
        """SIGKILL for all processes of a node, as when its machine goes away; the last one by default."""
        _kill_tree(self._nodes.pop(place))

    def node_pids(self, place: int) -> set[int]:
        """The processes of a node, those of its jobs among them."""
        return {process.pid for process in _tree(self._nodes[place])}

    def stop(self) -> None:
        """End everything, and remove its folder."""
        while self._nodes:
            self.kill_node()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_node(self, *options: str) -> subprocess.Popen[bytes]:
        self._started += 1
        command = [
            str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats", "--num-cpus", "1",
            "--num-gpus", "0", "--object-store-memory", str(100 * _MB), "--memory", str(1000 * _MB),
            "--node-ip-address", _host(self._started if self._nodes else 0),
            *(word for what in _PORTS for word in (f"--{what}-port", str(_free_port()))), *options,
        ]  # fmt: skip
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=_begin,  # noqa: PLW1509 - it only makes system calls
            )

    def _environment(self) -> Mapping[str, str]:
        here = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {
            **here,
            **self.settings.as_environment(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def _living(self) -> int:
        try:
            with urllib.request.urlopen(f"{self.address}/api/v0/nodes", timeout=5) as reply:
                nodes = json.load(reply)["data"]["result"]["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return sum(node["state"] == "ALIVE" for node in nodes)

    def _wait(self, node: subprocess.Popen[bytes], condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and node.poll() is None:
            if condition():
                return True
            time.sleep(0.3)
        return False


def _host(number: int) -> str:
    """An address of this machine for a node. Ray takes 127.0.0.1 for a mistake, and another one."""
    return f"127.0.0.{number + 2}"


def _tree(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        root = psutil.Process(node.pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill_tree(node: subprocess.Popen[bytes]) -> None:
    members = _tree(node)
    for member in members:  # held still first, so that none starts another meanwhile
        _send(member, signal.SIGSTOP)
    members = list({member.pid: member for member in (*members, *_tree(node))}.values())
    for member in members:
        _send(member, signal.SIGKILL)
    node.wait(10)
    psutil.wait_procs(members, timeout=10)


def _send(process: psutil.Process, signum: int) -> None:
    try:
        process.send_signal(signum)
    except psutil.NoSuchProcess:
        pass


def _begin() -> None:
    # Parts of a node must be ready within 15 s, however busy the machine is: before others, where we may say so.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("-15", encoding="ascii")
    # A killed test session must leave no cluster behind; on SIGTERM it ends all that it started.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
