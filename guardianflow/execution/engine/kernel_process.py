"""The kernel as a process: its interpreter, its sockets, its environment, and its end.

A kernel gets a session of its own, so Ctrl-C in a terminal reaches this process alone, and this
process decides what to tell the kernel. Everything that a kernel starts inherits a mark in its
environment; by this mark, and by the tree of parents, nothing of it is left behind.
"""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psutil

from guardianflow.exceptions import NotFoundError
from guardianflow.files.scratch import ScratchFolder
from guardianflow.processes.control_group import ControlGroup
from guardianflow.processes.interrupts import send_to_group
from guardianflow.processes.process_watch import ProcessWatch

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

__all__ = ["MARK", "THIS_PYTHON", "KernelProcesses", "KernelWorkspace", "check_kernel_name", "kernel_specs"]

log = logging.getLogger(__name__)

THIS_PYTHON = "guardianflow-this-python"
"""Kernel name that stands for the interpreter running now; it needs no installed kernelspec."""

MARK = "GUARDIANFLOW_KERNEL_MARK"
"""Environment variable inherited by all that a kernel starts; nested kernels append to it."""

# sun_path is 108 bytes on Linux and 104 on macOS, with the final zero; "/k-5" is ours.
_LONGEST_SOCKET_FOLDER = 95
_LEFTOVER_GRACE_S = 2.0

# As `python -m ipykernel_launcher`, and a crash in C code leaves its stack in the kernel's log: the
# kernel turns file descriptor 2 into a pipe that it reads itself, so a copy of the old one is taken. A notebook
# imports what lies beside it, but last: a file named psutil.py there must not stand in for what is installed.
_LAUNCH = (
    "import faulthandler, os, sys; faulthandler.enable(os.dup(2)); sys.path = [*filter(None, sys.path), '']; "
    "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
)
_CRASH = "Fatal Python error"
# A batch run writes nothing into the user's own IPython history.
_NO_HISTORY = "--HistoryManager.hist_file=:memory:"


def kernel_specs(name: str) -> KernelSpecManager:
    """The catalogue that resolves a kernel name.

    For :data:`THIS_PYTHON` it answers with the running interpreter, made up in memory: a ``python3``
    kernelspec may be missing, or lead to another Python without our packages.
    """
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class ThisPython(KernelSpecManager):  # type: ignore[misc, unused-ignore]
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002 - there is one
            return KernelSpec(
                argv=[sys.executable, "-P", "-c", _LAUNCH, "-f", "{connection_file}", _NO_HISTORY],
                display_name=f"Python {sys.version_info.major}.{sys.version_info.minor}",
                language="python",
            )

    return ThisPython() if name == THIS_PYTHON else KernelSpecManager()


def check_kernel_name(name: str) -> None:
    """Refuse a kernel that isn't installed, before anything begins.

    Raises:
        NotFoundError: No such kernel; the message lists the installed ones.
    """
    if name == THIS_PYTHON:
        return
    from jupyter_client.kernelspec import NoSuchKernel

    specs = kernel_specs(name)
    try:
        specs.get_kernel_spec(name)
    except NoSuchKernel as error:
        known = ", ".join(sorted(specs.find_kernel_specs())) or "none"
        raise NotFoundError(
            f"there is no Jupyter kernel named {name!r}. Known: {known}. "
            "Leave the kernel out to use the Python that runs GuardianFlow."
        ) from error


class KernelWorkspace:
    """A private folder for one kernel's sockets, connection file and log; gone when closed.

    Sockets of the ``ipc`` transport lie in it with mode 0700, so no port is open and nobody else can
    connect. Where the path would be too long for a socket, or on Windows, TCP is used.
    """

    def __init__(self) -> None:
        self._scratch = ScratchFolder("kernel", longest=_LONGEST_SOCKET_FOLDER)
        self.folder = self._scratch.path
        self.log_path = self.folder / "kernel.log"

    def manager_options(self) -> dict[str, Any]:
        """Traits of ``jupyter_client``'s kernel manager."""
        options: dict[str, Any] = {"connection_file": str(self.folder / "kernel.json")}
        if sys.platform != "win32" and len(os.fsencode(self.folder)) <= _LONGEST_SOCKET_FOLDER:
            options |= {"transport": "ipc", "ip": str(self.folder / "k")}
        return options

    def log_tail(self, lines: int = 25) -> str:
        """The last lines that the kernel process wrote outside of any cell; of a crash, its own stack."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        if _CRASH in text:
            crash = text[text.rindex(_CRASH) :]
            stack = crash[crash.find("Current thread") :].splitlines()[:lines]
            return "\n".join([crash.splitlines()[0], *stack])
        return "\n".join(text.splitlines()[-lines:]).strip()

    def close(self) -> None:
        """Remove the folder."""
        self._scratch.close()


class KernelProcesses:
    """A kernel process and everything that it started.

    A keeper stands between the two, where there are keepers: it is what is started here, and leads the kernel's group.
    """

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._group: ControlGroup | None = None
        self._watch: ProcessWatch | None = None

    @property
    def pid(self) -> int | None:
        """What was started."""
        return self._watch.pid if self._watch is not None else None

    def started(self, pid: int | None) -> None:
        """It is there: its process id, or that of its keeper."""
        if pid is not None:
            self._watch = ProcessWatch(pid, kept=True, mark=(MARK, self._id), group=self._group)

    def environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        """The kernel's environment: ours, the caller's additions, and the mark."""
        env = {**os.environ, **(extra or {})}
        # debugpy warns about frozen modules on stderr of every kernel otherwise.
        env.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        outer = os.environ.get(MARK)
        env[MARK] = f"{outer}:{self._id}" if outer else self._id
        self._group = ControlGroup()
        return {**env, **self._group.environment}

    def rss_mb(self) -> float | None:
        """Resident memory of the kernel process in MB (10^6 bytes), ``None`` when it's gone."""
        if self._watch is None:
            return None
        try:
            return round(psutil.Process(self._watch.kept()).memory_info().rss / 1e6, 1)
        except psutil.Error:
            return None

    def send(self, signum: int) -> None:
        """Signal the kernel's process group, as a terminal would; the kernel alone on Windows."""
        if self._watch is not None:
            send_to_group(self._watch.pid, signum)

    def note(self) -> None:
        """Look who is there, while the kernel lives."""
        if self._watch is not None:
            self._watch.note()

    def kill(self) -> None:
        """SIGKILL for the kernel and all that it started, at once."""
        if self._watch is not None:
            self._watch.end()

    def sweep(self) -> None:
        """After the kernel's end, stop what it left: SIGTERM, then SIGKILL after 2 s."""
        if self._watch is not None and (found := self._watch.end(grace_s=_LEFTOVER_GRACE_S)):
            log.warning("stopped %d process(es) that the notebook had left running", found)
        if self._group is not None:
            self._group.remove()
