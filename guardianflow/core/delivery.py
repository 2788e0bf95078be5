"""How a run's records reach MLflow without the run waiting for them.

A run submits operations; one background thread sends them in order. A server that is slow or dead
costs the run nothing: what could not be sent stays in order, is tried again, and what is left at
the end is written to ``undelivered.jsonl`` in the run's folder, from where it is sent later.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = ["BackgroundDelivery", "Delivery", "Operation", "read_undelivered", "write_undelivered"]

log = logging.getLogger(__name__)

UNDELIVERED = "undelivered.jsonl"
_HOPELESS = 3  # failures in a row after which nobody waits for the server


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


class Delivery(Protocol):
    """Takes operations in order and sees to it that they arrive."""

    def submit(self, operation: Operation) -> None:
        """Take one operation; returns at once."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is sent; ``False`` if it isn't after ``timeout_s`` seconds, or can't be."""
        ...

    def close(self, timeout_s: float) -> list[Operation]:
        """Wait until all is sent, at most ``timeout_s`` seconds; return what is left, in order."""
        ...


class BackgroundDelivery:
    """Sends in order from a thread of its own; a failure is retried, never raised into the run.

    Args:
        send: Sends one operation, or raises.
        retry_s: Pause after a failure, in seconds; doubled up to eight times this.
        is_final: Whether an error can never be cured by trying again (the operation is dropped,
            with a warning).
    """

    def __init__(
        self,
        send: Callable[[Operation], None],
        *,
        retry_s: float = 0.5,
        is_final: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        self._send = send
        self._retry_s = retry_s
        self._is_final = is_final
        self._waiting: deque[Operation] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._failures = 0
        self._thread = threading.Thread(target=self._work, name="guardianflow-delivery", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> None:
        """Take one operation; returns at once."""
        with self._changed:
            self._waiting.append(operation)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is sent; ``False`` after ``timeout_s`` seconds, or when the server is down."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting and self._failures <= _HOPELESS and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._waiting

    def close(self, timeout_s: float) -> list[Operation]:
        """Wait until all is sent, at most ``timeout_s`` seconds; return what is left, in order."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
            return left

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                operation = self._waiting[0]
            if self._try(operation):
                with self._changed:
                    if self._waiting and self._waiting[0] is operation:
                        self._waiting.popleft()
                    self._changed.notify_all()
            elif self._failures > _HOPELESS:
                with self._changed:
                    self._changed.notify_all()
                if self._closing:
                    return  # the run has ended and the server doesn't answer: the rest is for later

    def _try(self, operation: Operation) -> bool:
        try:
            self._send(operation)
        except Exception as error:  # noqa: BLE001 - whatever the server does, the run goes on
            if self._is_final(error):
                log.warning("MLflow refused %s of run %s for good: %s", operation.kind, operation.run_id, error)
                return True
            if self._failures == 0:
                log.warning("MLflow can't be reached (%s); the run goes on and tries again", _brief(error))
            self._failures += 1
            time.sleep(min(self._retry_s * 2 ** min(self._failures - 1, 3), 4.0))
            return False
        if self._failures:
            log.info("MLflow answers again")
        self._failures = 0
        return True


def write_undelivered(folder: Path, operations: Iterable[Operation]) -> Path | None:
    """Keep what could not be sent, in order, beside what is kept there already."""
    lines = [json.dumps(asdict(operation), ensure_ascii=False) for operation in operations]
    if not lines:
        return None
    path = folder / UNDELIVERED
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path


def read_undelivered(folder: Path) -> list[Operation]:
    """What could not be sent by a run, in order; a line cut off by a crash is left out."""
    path = folder / UNDELIVERED
    if not path.exists():
        return []
    operations = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            operations.append(Operation(**json.loads(line)))
        except (ValueError, TypeError):
            log.warning("%s has a broken line, left out", path)
    return operations


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "…"
