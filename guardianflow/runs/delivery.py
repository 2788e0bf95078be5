"""How a run's records reach MLflow without the run waiting for them.

A run submits operations; one background thread sends them in order. A server that is slow or dead
costs the run nothing: what could not be sent stays in order and is tried again. What is left at
the end is handed back, to be kept in the run's folder (see :mod:`guardianflow.runs.undelivered`).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from guardianflow.core.config import mask_secrets

__all__ = ["BackgroundDelivery", "Operation", "Refusal", "batches", "brief", "upload_seconds"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

PATIENCE_S = 12.0
_LAST_CHANCE_S = 5.0
_LONGEST_CLOSE_S = 60.0
_HOPELESS = 3  # failures in a row after which nobody waits for the server
_MAX_PAUSE_S = 4.0
_SLOWEST_UPLOAD = 1e6  # bytes per second below which an upload counts as hanging

# What MLflow wraps into a sentence of a thousand characters.
_CAUSE = re.compile(
    r"no answer within \d+ s|its answer (is|was|would)[^\n'\"()]+|the server took [^\n'\"()]+"
    r"|Connection refused|[Rr]ead timed out|timed out|Name or service not known|Temporary failure in name resolution"
    r"|No route to host|Network is unreachable|Connection reset by peer|unable to open database file"
    r"|password authentication failed[^\n(]*|database is locked"
)


@dataclass(frozen=True)
class Operation:
    """One thing to tell MLflow. Sending it twice has the effect of sending it once.

    Attributes:
        kind: ``params``, ``metrics``, ``tags``, ``artifact`` or ``status``.
        run_id: The run it belongs to.
        payload: Plain JSON types.
    """

    kind: str
    run_id: str
    payload: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.kind == "artifact":
            return Path(self.payload["path"]).name
        values = self.payload.get(self.kind)
        names = [str(row[0]) for row in values] if isinstance(values, list) else list(values or ())
        names = list(dict.fromkeys(names))
        return f"{self.kind} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}".strip()


@dataclass(frozen=True)
class Refusal:
    """What MLflow understood and will never accept, and why."""

    operation: Operation
    reason: str


Send = Callable[[Operation], Sequence[Refusal]]
"""Sends one operation; returns what of it was refused for good, raises where trying again may help."""


class BackgroundDelivery:
    """Sends in order from a thread of its own; a failure is retried, never raised into the run.

    An operation that fails again and again while the server answers other questions (an artifact
    store without rights, say) is set aside, so that it holds up nothing behind it. It is tried once
    more at the end, and handed back if that fails too.

    Args:
        send: Sends one operation.
        answers: Whether the server answers at all.
        on_refused: Told what MLflow will never accept.
        retry_s: Pause after a failure, in seconds; doubled up to eight times this.
        patience_s: How long :meth:`flush` and :meth:`close` wait without anything being sent. Where an
            upload is under way, its size counts on top, at 1 MB a second.
    """

    def __init__(
        self,
        send: Send,
        *,
        answers: Callable[[], bool] = lambda: False,
        on_refused: Callable[[Refusal], None] = lambda _: None,
        retry_s: float = 0.5,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._send = send
        self._answers = answers
        self._on_refused = on_refused
        self._retry_s = retry_s
        self._patience_s = patience_s
        self._waiting: deque[Operation] = deque()
        self._aside: list[Operation] = []
        self._changed = threading.Condition()
        self._closing = False
        self._closed = False
        self._hurried = False
        self._failures = 0
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="guardianflow-delivery", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> None:
        """Take one operation; returns at once."""
        with self._changed:
            if self._closed:
                log.warning("a %s record of run %s came after its end and is lost", operation.kind, operation.run_id)
                return
            if not self._waiting:
                self._moved = time.monotonic()
            self._waiting.append(operation)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is sent; ``False`` after ``timeout_s`` seconds, or when the server is down."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._wait(deadline)
            return not self._waiting and not self._aside

    def hurry(self) -> None:
        """Let :meth:`flush` and :meth:`close` stop waiting; may be called from a signal handler."""
        self._hurried = True  # no lock: the thread that is interrupted may hold it; they look every 0.2 s

    def close(self, *, patience_s: float | None = None) -> list[Operation]:
        """Wait for what can be sent; return what is left, in order.

        Returns as soon as the server turns out to be down: after ``patience_s`` seconds without
        anything sent, and after one minute plus the time for uploads in any case.

        Args:
            patience_s: Another patience than the one this was made with, for the end.
        """
        with self._changed:
            self._closing = True
            self._patience_s = self._patience_s if patience_s is None else patience_s
            self._give_another_chance()
            deadline = time.monotonic() + _LONGEST_CLOSE_S + sum(map(upload_seconds, self._waiting))
            self._changed.notify_all()
            self._wait(deadline)
            self._closed = True
            left = [*self._aside, *self._waiting]
            self._aside.clear()
            self._waiting.clear()
            self._changed.notify_all()
        return left

    def _give_another_chance(self) -> None:
        """Before the end everything is tried once more, though not for long where the server was down."""
        now = time.monotonic()
        if self._failures:
            self._failures = 1
            self._moved = max(self._moved, now - self._patience_s + _LAST_CHANCE_S)
        elif self._aside:
            self._moved = now
        self._waiting.extendleft(reversed(self._aside))
        self._aside.clear()

    def _wait(self, deadline: float) -> None:
        """Until all is sent, nothing moves any more, or the deadline. The caller holds the lock."""
        while self._waiting and not self._hurried:
            now = time.monotonic()
            patience = self._patience_s + (0.0 if self._failures else upload_seconds(self._waiting[0]))
            if now >= deadline or self._failures >= _HOPELESS or now - self._moved >= patience:
                return
            self._changed.wait(0.2)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                operation = self._waiting[0]
            failure = self._try(operation)
            stuck = failure is not None and self._failures + 1 >= _HOPELESS and self._answers()
            with self._changed:
                here = bool(self._waiting) and self._waiting[0] is operation  # close() may have given it back
                if failure is None:
                    self._note_success()
                elif not (stuck and here):
                    self._note_failure(failure)
                    self._pause(min(self._retry_s * 2 ** min(self._failures - 1, 3), _MAX_PAUSE_S))
                    continue
                if here:
                    self._waiting.popleft()
                if failure is not None:
                    self._set_aside(operation, failure)
                self._changed.notify_all()

    def _try(self, operation: Operation) -> Exception | None:
        try:
            refusals = self._send(operation)
        except Exception as error:  # noqa: BLE001 - whatever the server does, the run goes on
            return error
        for refusal in refusals:
            self._on_refused(refusal)
        return None

    def _note_success(self) -> None:
        if self._failures:
            log.info("MLflow answers again")
        self._failures = 0
        self._moved = time.monotonic()

    def _note_failure(self, failure: Exception) -> None:
        if self._failures == 0:
            log.warning("MLflow could not be told (%s); the run goes on and tries again", brief(failure))
        self._failures += 1
        self._changed.notify_all()

    def _set_aside(self, operation: Operation, failure: Exception) -> None:
        log.warning(
            "MLflow answers, but does not take %s of run %s (%s); what comes after it goes on",
            operation.kind, operation.run_id, brief(failure),
        )  # fmt: skip
        self._aside.append(operation)
        self._note_success()

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt, less where somebody waits for the end. The lock is held."""
        until = time.monotonic() + seconds
        closing = self._closing
        while (left := until - time.monotonic()) > 0 and not self._closed and closing == self._closing:
            self._changed.wait(left)


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Items in lists of a size that one request may have."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def upload_seconds(operation: Operation) -> float:
    """How long an upload may take, in seconds: 0 for anything but artifacts."""
    if operation.kind != "artifact":
        return 0.0
    path = Path(operation.payload["path"])
    try:
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files) / _SLOWEST_UPLOAD
    except OSError:
        return 0.0


def brief(error: BaseException) -> str:
    """An error in one line, without passwords; of a failed connection only the cause."""
    text = mask_secrets(" ".join(str(error).split()) or type(error).__name__)
    cause = _CAUSE.search(text)
    if cause:
        return cause.group()
    return text if len(text) <= 200 else text[:199] + "…"
