"""What Ctrl-C, SIGTERM and SIGHUP do to a run: end it as an exception, or wait until it has ended.

Python's default for SIGTERM and SIGHUP is to die on the spot, without a word to anybody. Signals are
taken in the main thread only, and one that the process ignores (``nohup``) stays ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from guardianflow.exceptions import RunInterruptedError

__all__ = ["Signalled", "handled_by", "send_to_group", "signals_raise", "signals_wait"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_MEANING = {"SIGINT": "interrupted by Ctrl-C", "SIGTERM": "ended by SIGTERM", "SIGHUP": "ended by SIGHUP"}

Handler = Callable[[int, FrameType | None], None]


class Signalled(BaseException):
    """A signal has come. No ``except Exception`` on the way may take it for a failure of its own."""

    def __init__(self, signum: int) -> None:
        super().__init__(_MEANING[signal.Signals(signum).name])
        self.signum = signum


@contextlib.contextmanager
def signals_raise(*names: str) -> Iterator[None]:
    """A signal ends the block, which then raises :class:`~guardianflow.exceptions.RunInterruptedError`.

    Args:
        names: Which signals; default SIGINT, SIGTERM and SIGHUP.
    """

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise Signalled(signum)

    try:
        with handled_by(stop, names or _NAMES):
            yield
    except Signalled as error:
        raise RunInterruptedError(str(error), signum=error.signum) from error


@contextlib.contextmanager
def signals_wait(on_signal: Callable[[], None] | None = None, *, and_then_raise: bool = True) -> Iterator[None]:
    """Inside the block a signal only calls ``on_signal``; at the end it does what it does otherwise.

    Args:
        on_signal: Told at once, so that waiting can be cut short.
        and_then_raise: Let the last signal take effect after the block. ``False`` where the process is
            being ended by a signal already.
    """
    received: list[int] = []

    def note(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)
        if on_signal is not None:
            on_signal()

    with handled_by(note):
        yield
    if received and and_then_raise:
        signal.raise_signal(received[-1])


@contextlib.contextmanager
def handled_by(handler: Handler, names: Sequence[str] = _NAMES) -> Iterator[None]:
    """Inside the block signals go to ``handler``; in the main thread only, and one that is ignored stays ignored."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in names:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def send_to_group(pid: int, signum: int) -> None:
    """Send a signal to a process and its group, or where there are no groups to it alone; it may be gone already."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signum)
        else:
            os.kill(pid, signum)
