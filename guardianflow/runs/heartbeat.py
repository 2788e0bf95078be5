"""Signs of life of a run: a heartbeat, and where it stands, written by a thread of its own.

A state database that is slow or away must not make a training wait.
"""

from __future__ import annotations

import logging
import threading
import time

from guardianflow.runs.run_records import Progress, RunRecords

__all__ = ["HEARTBEAT_S", "Pulse"]

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
_MIN_PAUSE_S = 0.2  # between two writes of progress
_STOP_S = 3.0


class Pulse:
    """Writes a run's heartbeat and the newest of its progress until it is stopped.

    Args:
        records: Where to.
        run_id: Which run.
        beats: Whether to write a heartbeat; the process that owns the run does.
        every_s: Seconds between two beats.
    """

    def __init__(self, records: RunRecords, run_id: str, *, beats: bool, every_s: float = HEARTBEAT_S) -> None:
        self._records = records
        self._run_id = run_id
        self._beats = beats
        self._every_s = every_s
        self._progress: Progress | None = None
        self._stopped = False
        self._failing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="guardianflow-heartbeat", daemon=True)
        self._thread.start()

    def set_progress(self, progress: Progress) -> None:
        """Where the run stands; returns at once. What was not written yet is replaced."""
        with self._changed:
            self._progress = progress
            self._changed.notify_all()

    def stop(self) -> None:
        """Write the last progress and end, within 3 s."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(_STOP_S)

    def _work(self) -> None:
        due = time.monotonic() + self._every_s
        while True:
            with self._changed:
                if self._progress is None and not self._stopped:
                    self._changed.wait(max(0.0, due - time.monotonic()))
                progress, self._progress = self._progress, None
                stopped = self._stopped
            if progress is not None:
                self._write(progress)
            if stopped:
                return
            if time.monotonic() >= due:
                due = time.monotonic() + self._every_s
                if self._beats:
                    self._write(None)
            elif progress is not None:
                time.sleep(_MIN_PAUSE_S)

    def _write(self, progress: Progress | None) -> None:
        try:
            if progress is None:
                self._records.beat(self._run_id)
            else:
                self._records.set_progress(self._run_id, progress)
        except Exception as error:  # noqa: BLE001 - a missed sign of life must not end a run
            level = logging.DEBUG if self._failing else logging.WARNING
            log.log(level, "the state of run %s can't be written (%s); the run goes on", self._run_id, error)
            self._failing = True
        else:
            self._failing = False
