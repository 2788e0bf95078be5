"""The reporter: sends the live figures of a model in service, and never stands in its way.

It runs on camera boxes, beside the model: the standard library and nothing else.
"""

from __future__ import annotations

import atexit
import http.client
import json
import logging
import math
import os
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from guardianflow._answers import LimitedAnswer
from guardianflow.core.metrics import legal_metric_name
from guardianflow.exceptions import InputError

__all__ = ["Reporter"]

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
BATCH = 500
GATHER_S = 1.0
ANSWER_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_CANT_BE_USED = (400, 413, 422)


class Reporter:
    """Sends figures of a served model to the dashboard API, in the background.

    :meth:`report` takes microseconds, never waits and never raises. What the server doesn't take now is kept and
    sent again, with a growing pause; of more than 10,000 waiting figures the oldest are dropped, and counted. A figure
    that arrives twice is stored once. Several threads may report; a forked process gets a sender of its own.

    Args:
        url: Where ``guardianflow api`` answers, such as ``http://gate-server:8000``.
        key: Key of an ingester; ``None`` on the server's own machine while it has no keys.
        site: Site that is watched.
        camera: Camera.
        model: Registered model that is served.
        version: The version that is served; set :attr:`version` when you change it.

    Attributes:
        version: What the next figures are reported of.
        sent: Figures that the server has.
        dropped: Figures that were lost: the buffer was full, or it was closed.
        refused: Figures that can't be used; :attr:`last_error` says why.
        last_error: What went wrong last, or ``None``.

    Raises:
        InputError: The URL is none.

    Example:
        ``with Reporter(url, key, "harbour", "cam-1", model="gate", version="3") as reporter:``
        ``    reporter.report("latency_ms_p95", 21.4)``
    """

    _queue: deque[str]
    _batch: list[str]
    _thread: threading.Thread | None

    def __init__(
        self,
        url: str,
        key: str | None,
        site: str,
        camera: str,
        model: str | None = None,
        version: str | None = None,
    ) -> None:
        self._https, self._address, self._path = _place(url)
        self._headers = {"Content-Type": "application/json", "User-Agent": "guardianflow-reporter"}
        if key is not None:
            if not (key.isascii() and key.isprintable() and " " not in key):
                raise InputError("the key holds a blank or a sign that no key has; copy it as it was printed")
            self._headers["Authorization"] = f"Bearer {key}"
        self._labels = {"site": site, "camera": camera, "model": model}
        self.version = version
        self.sent = self.dropped = self.refused = 0
        self.last_error: str | None = None
        self._failing = False
        self._champion: str | None = version
        self._callbacks: list[Callable[[str], None]] = []
        self._begin()
        atexit.register(self.close, 2.0)

    def __repr__(self) -> str:
        return f"Reporter({self._address!r}, sent={self.sent}, waiting={self.waiting}, dropped={self.dropped})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """Figures that were not sent yet."""
        return len(self._queue) + len(self._batch)

    @property
    def champion(self) -> str | None:
        """The version in charge of the model, as the server said last; before that the version that was given."""
        return self._champion

    def on_champion(self, callback: Callable[[str], None]) -> None:
        """Have a function called with the new version when the champion has changed, in the sender's thread.

        The first answer counts as a change where it names another version than the one that was given.
        """
        self._callbacks.append(callback)

    def report(self, metric: str, value: float, time: datetime | None = None) -> None:
        """Report one figure; returns at once, whatever happens.

        Args:
            metric: Its name, such as ``latency_ms_p95``.
            value: The figure, in the metric's unit.
            time: When it was measured; naive means UTC. Default: now.
        """
        try:
            text = self._text(metric, value, time)
        except Exception as error:  # noqa: BLE001 - a wrong figure must not stop the model
            self._note(f"{metric!r} = {value!r} can't be reported: {error}", refused=1)
            return
        self._be_here()
        with self._changed:
            if self._closed:
                self.dropped += 1
                return
            if len(self._queue) >= MOST_WAITING:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(text)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="guardianflow reporter", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float = 5.0) -> bool:
        """Send what waits, without pauses; whether all of it was settled in time."""
        self._be_here()
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._queue and not self._batch, timeout)
            self._hurry = False
        return done

    def close(self, timeout: float = 5.0) -> bool:
        """:meth:`flush`, then stop; what is left is dropped. May be called again."""
        atexit.unregister(self.close)
        done = self.flush(timeout)
        with self._changed:
            self._closed = True
            self.dropped += self.waiting
            self._queue.clear()
            self._batch = []
            self._changed.notify_all()
        return done

    # --- the sender -------------------------------------------------------------------------------

    def _be_here(self) -> None:
        """A forked child must not use its parent's buffer, lock and sender."""
        if self._pid != os.getpid():
            self._begin()

    def _begin(self) -> None:
        """A buffer, and a sender with the first figure."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._queue = deque()
        self._batch = []
        self._thread = None
        self._hurry = self._closed = False

    def _text(self, metric: str, value: float, time: datetime | None) -> str:
        if not metric or metric != legal_metric_name(metric):
            raise InputError(f"use the name {legal_metric_name(str(metric))!r}")
        moment = time or datetime.now(UTC)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        number = float(value)
        record = {
            **self._labels,
            "version": None if self.version is None else str(self.version),
            "time": moment.astimezone(UTC).isoformat(),
            "metric": metric,
            "value": number if math.isfinite(number) else str(number),
            "event_id": uuid.uuid4().hex,
        }
        return json.dumps(record)

    def _run(self) -> None:
        failures = 0
        while self._take(failures):
            settled = self._deliver(self._batch)
            with self._changed:
                failures = 0 if settled else failures + 1
                if settled:
                    self._batch = []
                    self._changed.notify_all()

    def _take(self, failures: int) -> bool:
        """Wait for figures, for more of them or, after a failure, a while; ``False`` once closed."""
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures, 20)) * random.uniform(0.5, 1)  # noqa: S311
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._queue or self._batch)
            if failures:  # a flush makes the pause short, not none
                self._changed.wait_for(lambda: self._closed, _FIRST_PAUSE_S)
                self._changed.wait_for(lambda: self._closed or self._hurry, pause)
            else:
                self._changed.wait_for(lambda: self._closed or self._hurry or len(self._queue) >= BATCH, GATHER_S)
            if not self._batch:
                self._batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            return not self._closed

    def _deliver(self, batch: list[str]) -> bool:
        """Whether every figure was stored or refused; one that can't be used does not take the others along."""
        try:
            status, answer = self._post(batch)
            if status == http.client.CREATED:
                self._accept(json.loads(answer), len(batch))
                return True
        except Exception as error:  # noqa: BLE001 - whatever the network does, the sender goes on
            self._note(f"{self._address} doesn't answer: {error!r}; {self.waiting} figures wait")
            return False
        said = answer[:500].decode("utf-8", "replace")
        if status not in _CANT_BE_USED:
            self._note(f"{self._address} answers {status}: {said}; {self.waiting} figures wait")
            return False
        if len(batch) == 1:
            self._note(f"{self._address} can't use a figure ({status}): {said}", refused=1)
            return True
        half = len(batch) // 2
        return self._deliver(batch[:half]) and self._deliver(batch[half:])

    def _post(self, batch: list[str]) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = kind(self._address, timeout=ANSWER_S)
        connection.response_class = LimitedAnswer
        try:
            body = f'{{"records": [{", ".join(batch)}]}}'.encode()
            connection.request("POST", self._path, body, self._headers)
            response = connection.getresponse()
            return response.status, response.read(1_000_000)
        finally:
            connection.close()

    def _accept(self, answer: dict[str, Any], figures: int) -> None:
        self.sent += figures
        self._failing = False
        now = answer["champions"].get(self._labels["model"])
        before, self._champion = self._champion, now or self._champion
        if now and now != before and before is not None:
            for callback in self._callbacks:
                try:
                    callback(now)
                except Exception:  # a callback's fault must not stop the sender
                    log.exception("a callback for the new champion %s failed", now)

    def _note(self, error: str, *, refused: int = 0) -> None:
        """Keep what went wrong, and log it once: not with every try, not with every figure."""
        if not (self.refused if refused else self._failing):
            log.warning("%s", error)
        self.refused += refused
        self._failing = self._failing or not refused
        self.last_error = error


def _place(url: str) -> tuple[bool, str, str]:
    """Whether by TLS, host and port, and the path."""
    refusal = InputError(f"url must read like http://server:8000, not {url!r}")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except (ValueError, AttributeError) as error:
        raise refusal from error
    if not usable or parts.username or parts.query or parts.fragment:
        raise refusal
    return parts.scheme == "https", parts.netloc, parts.path.rstrip("/") + "/api/metrics"
