"""A process between us and one that we start: it adopts what that one leaves behind, and ends it when either is gone.

No group, session or environment leads to a process that forked twice; its parent does, once orphans are handed to a
keeper. It does nothing else, hears no signal that a terminal or a scheduler sends to its group, and ends as the
process that it keeps did.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from guardianflow.processes.control_group import JoinedGroup
from guardianflow.processes.tree import CHILDREN_KNOWN, ProcessTree, adopt_orphans, die_with_parent

__all__ = ["KILL", "keep", "kept"]

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
"""Ends a process at once, by the name that it has on this system."""

_PROGRAM = (
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from guardianflow.processes.keeper import main; main()"
)
_LOOK_S = 1.0
_KILL_AGAIN_S = 0.02
_UNKILLABLE_S = 4.0


def kept(
    argv: Sequence[str], *, if_alone: signal.Signals = KILL, patience_s: float = 0.0, grace_s: float = 2.0
) -> list[str]:
    """A command with its keeper before it, to be started by this process; the options are those of :func:`keep`."""
    import shutil  # here: a keeper begins in a moment

    if not CHILDREN_KNOWN or shutil.which(argv[0]) is None:  # whoever starts it says better that it isn't there
        return list(argv)
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _PROGRAM,
        *map(str, (os.getpid(), int(if_alone), patience_s, grace_s)),
        *argv,
    ]


def keep(*, parent: int = 0, if_alone: signal.Signals, patience_s: float = 0.0, grace_s: float = 2.0) -> None:
    """Go on as the child of a keeper, where the system lets one adopt orphans (Linux).

    To be called before anything else: nothing runs in another thread yet, and nothing is open.

    Args:
        parent: Who started this process; default: its parent now.
        if_alone: What this process gets from the system when its keeper is killed.
        patience_s: How long it has to end by itself when whoever started it is gone.
        grace_s: From SIGTERM until SIGKILL for what it left behind.
    """
    parent, group = parent or os.getppid(), JoinedGroup()
    if not CHILDREN_KNOWN or not adopt_orphans():
        return
    die_with_parent(signal.SIGTERM)  # of the keeper, which it wakes; what is forked doesn't inherit it
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    keeper, before = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child:
        _Keeper(child, parent, group, patience_s).stand_by(grace_s)
    die_with_parent(if_alone)
    if os.getppid() != keeper:  # it was killed before we asked
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Keeper:
    def __init__(self, child: int, parent: int, group: JoinedGroup, patience_s: float) -> None:
        self._child = child
        self._parent = parent
        self._group = group
        self._patience_s = patience_s
        self._tree = ProcessTree(-1, adopts=True)
        self._status: int | None = None

    def stand_by(self, grace_s: float) -> NoReturn:
        """Until nothing is left."""
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):  # pipes end with the processes that use them
            os.dup2(null, fd)
        os.chdir("/")  # nobody's folder is in use because of us
        alone_since = 0.0
        while self._status is None:
            signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, _LOOK_S)
            self._reap()
            if os.getppid() == self._parent:
                continue
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since >= self._patience_s:
                break
            with contextlib.suppress(OSError):
                os.kill(self._child, signal.SIGCONT)  # one that was halted would not see it
        if self._status is None:
            os.kill(self._child, signal.SIGKILL)
        self._end_all(grace_s)
        self._group.leave()
        if os.getppid() != self._parent:  # it had no time to remove its own
            from guardianflow.files.scratch import sweep_scratch  # here: a keeper begins in a moment

            sweep_scratch()
        self._end_likewise()

    def _end_all(self, grace_s: float) -> None:
        began = time.monotonic()
        if grace_s:
            self._tree.signal_all(signal.SIGTERM)
            self._tree.signal_all(signal.SIGCONT)
        while self._tree.living() and time.monotonic() - began < grace_s + _UNKILLABLE_S:
            if time.monotonic() - began >= grace_s:
                self._tree.signal_all(signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, _KILL_AGAIN_S)
            self._reap()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._child:
                    self._status = ended[1]

    def _end_likewise(self) -> NoReturn:
        code = os.waitstatus_to_exitcode(self._status) if self._status is not None else 1
        if code < 0:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if -code != signal.SIGKILL:
                signal.signal(-code, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
            os.kill(os.getpid(), -code)
        os._exit(code)


def main() -> NoReturn:
    """What :func:`kept` starts."""
    parent, if_alone, patience_s, grace_s, *argv = sys.argv[1:]
    keep(
        parent=int(parent),
        if_alone=signal.Signals(int(if_alone)),
        patience_s=float(patience_s),
        grace_s=float(grace_s),
    )
    if os.environ.get("JPY_PARENT_PID") == parent:  # a kernel ends when this is not its parent
        os.environ["JPY_PARENT_PID"] = str(os.getppid())
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - words, as whoever starts it has them
    except OSError as error:
        sys.exit(f"{argv[0]} can't be started: {error.strerror}")
