"""What a wrapped script prints, live at the terminal, although a notebook's kernel stands between the two."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from guardianflow.files.scratch import ScratchFolder
from guardianflow.processes.supervision.streams import widen
from guardianflow.processes.supervision.terminal_orders import TerminalOrders

__all__ = ["VARIABLE", "LiveOutput", "live_folder"]

VARIABLE = "GUARDIANFLOW_LIVE_OUTPUT"
"""Environment variable that tells a run where somebody waits for what its script prints."""

_NAMES = ("stdout", "stderr")
_READ_BYTES = 1 << 18


def live_folder() -> Path | None:
    """The folder with the two FIFOs of a :class:`LiveOutput` that is open, or ``None``."""
    folder = os.environ.get(VARIABLE, "")
    return Path(folder) if folder and Path(folder).is_dir() else None


class LiveOutput:
    """Two FIFOs in a folder of their own, and threads that copy what comes through until the block's end.

    Where the system has no FIFOs the block does nothing: the script's output is in its logs all the same. A file or
    pipe gets it as it is, a terminal without :class:`~.terminal_orders.TerminalOrders`.

    Args:
        stdout: Where the script's stdout goes, such as ``sys.stdout.buffer``.
        stderr: Where its stderr goes.

    Attributes:
        folder: Where the FIFOs are, named ``stdout`` and ``stderr``; for this user only.
        environment: What a run's environment needs to find them; empty where there are none.
    """

    def __init__(self, stdout: BinaryIO, stderr: BinaryIO) -> None:
        self.folder = Path()
        self.environment: dict[str, str] = {}
        self._targets = dict(zip(_NAMES, (stdout, stderr), strict=True))
        self._threads: list[threading.Thread] = []
        self._stop: tuple[int, int] | None = None
        self._scratch: ScratchFolder | None = None

    def __enter__(self) -> Self:
        if not hasattr(os, "mkfifo"):
            return self
        self._scratch = ScratchFolder("live")
        self.folder = self._scratch.path
        try:
            self._stop = os.pipe()
            for name, target in self._targets.items():
                self._copy_in_thread(self.folder / name, target)
        except OSError:  # a file system without FIFOs
            self._close()
            return self
        self.environment = {VARIABLE: str(self.folder)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _copy_in_thread(self, path: Path, target: BinaryIO) -> None:
        os.mkfifo(path, 0o600)
        # To be its writer, too, keeps it open when one script ends and the next has not begun.
        fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        widen(fifo)
        thread = threading.Thread(target=self._copy, args=(fifo, target), daemon=True, name=f"live-{path.name}")
        self._threads.append(thread)
        thread.start()

    def _copy(self, fifo: int, target: BinaryIO | None) -> None:
        assert self._stop is not None  # noqa: S101 - set before the thread begins
        stop = self._stop[0]
        orders = TerminalOrders() if target is not None and target.isatty() else None
        poll = select.poll()
        poll.register(fifo, select.POLLIN)
        poll.register(stop, select.POLLIN)
        try:
            while True:
                ready = [fd for fd, _ in poll.poll()]
                try:
                    data = os.read(fifo, _READ_BYTES)
                except BlockingIOError:
                    if stop in ready:  # the block has ended, and all that came before has been copied
                        return
                    continue
                if target is not None and not _wrote(target, orders.without(data) if orders else data):
                    target = None  # nobody looks any more; the script goes on all the same
        finally:
            os.close(fifo)

    def _close(self) -> None:
        self.environment = {}
        if self._stop is None:
            return
        reader, writer = self._stop
        os.close(writer)  # as the end of this pipe, it is seen by both threads
        try:
            for thread in self._threads:
                thread.join()  # as long as a terminal that is held (Ctrl-S) takes; Ctrl-C ends it
        finally:
            if self._scratch is not None:
                self._scratch.close()
            if not any(thread.is_alive() for thread in self._threads):
                os.close(reader)
            self._threads, self._stop = [], None


def _wrote(target: BinaryIO, data: bytes) -> bool:
    with contextlib.suppress(OSError, ValueError):  # closed, or a pipe that nobody reads
        target.write(data)
        target.flush()
        return True
    return False
