"""What is written down while a wrapped script works: figures from its output and its files, its load."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.metrics.files import GrowingFiles
from guardianflow.adapters.wrap.metrics.line_hints import metric_hint
from guardianflow.adapters.wrap.metrics.lines import MetricLines
from guardianflow.adapters.wrap.metrics.measurement import Measurement, Point
from guardianflow.adapters.wrap.metrics.series import MetricSeries
from guardianflow.core.metrics import MetricRecord, MetricSink
from guardianflow.exceptions import GuardianFlowError
from guardianflow.machine.system import SystemSample, SystemSampler
from guardianflow.processes.supervision.words import end_of_log
from guardianflow.runs.tracking import TrackedRun

__all__ = ["LoadRecorder", "MetricRecorder"]

log = logging.getLogger(__name__)

_SEND_S = 1.0
_KEPT_POINTS = 1_000
_KEPT_SAMPLES = 600
_SAMPLE_S = 0.5
_MEANS = ("gpu_util", "gpu_mem_mb", "gpu_power_w")


class MetricRecorder:
    """Figures of a script: taken as they come, logged about once a second.

    Args:
        run: The run that they belong to.
        sink: Where measurements go beside MLflow.
        folder: Where the script works: its CSV and event files are looked for below it.
        patterns: The user's regular expressions.
        files: The user's globs of CSV files.
        skip: Folders whose files are none of the script's.
        automatic: Take ``name: value`` and the like from the output.
    """

    def __init__(
        self,
        run: TrackedRun,
        sink: MetricSink,
        folder: Path,
        *,
        patterns: Sequence[str] = (),
        files: Sequence[str] = (),
        skip: Sequence[Path] = (),
        automatic: bool = True,
    ) -> None:
        self._run = run
        self._sink = sink
        self._lines = {stream: MetricLines(patterns, automatic=automatic) for stream in ("stdout", "stderr")}
        self._files = GrowingFiles(folder, since=time.time(), patterns=files, skip=skip)
        self._looks = automatic or bool(patterns)
        self._series = MetricSeries()
        self._due = 0.0
        self._stores = True
        self._points: dict[str, list[tuple[int, float]]] = {}

    @property
    def last(self) -> dict[str, float]:
        """Last value of each metric."""
        return dict(self._series.last)

    @property
    def histories(self) -> dict[str, list[tuple[int, float]]]:
        """Points (step, value) of each metric, thinned to what a page can show."""
        return {name: _thinned(points) for name, points in self._points.items()}

    @property
    def remarks(self) -> list[str]:
        """What could not be taken, and why."""
        found = [*self._lines["stdout"].remarks, *self._lines["stderr"].remarks]
        if self._looks and not self._series.last:
            logs = "\n".join(end_of_log(self._run.folder / f"{stream}.log") for stream in self._lines)
            found += filter(None, [metric_hint(logs)])
        return list(dict.fromkeys([*found, *self._files.remarks, *self._series.remarks]))

    @property
    def files(self) -> Mapping[Path, str]:
        """The metric files that were found, and of which kind they are."""
        return self._files.found

    def take_output(self, stream: str, chunk: bytes) -> None:
        """Some of the script's output, in whole lines."""
        self._series.add(self._lines[stream].feed(chunk), source=stream)

    def tick(self) -> None:
        """Look at the files, and log what is new; does nothing where the last time was a moment ago."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _SEND_S
        self._take_files(self._files.poll())
        self._log(self._series.take())

    def close(self) -> None:
        """Log all that is left."""
        for stream, lines in self._lines.items():
            self._series.add(lines.close(), source=stream)
        for measurements in self._files.close():
            self._take_files(measurements)
        self._log(self._series.close())

    def _take_files(self, measurements: Sequence[Measurement]) -> None:
        for name in self._files.started_over():
            self._series.forget(name)
            self._points.pop(name, None)
        self._series.add(measurements, source="files")

    def _log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._points.setdefault(point.name, []).append((point.step, point.value))
        self._run.log_points((point.name, point.value, point.step) for point in points)
        self._store(points)

    def _store(self, points: Sequence[Point]) -> None:
        if not points or not self._stores:
            return
        now = datetime.now(UTC)
        records = [
            MetricRecord(
                time=now,
                metric=point.name,
                value=point.value,
                run_id=self._run.run_id,
                experiment=self._run.experiment,
                source="wrap",
                tags={"step": str(point.step)},
            )
            for point in points
        ]
        try:
            self._sink.save_metrics(records)
        except GuardianFlowError as error:  # MLflow has them; a store that is away must not end the script
            self._stores = False
            log.warning("the metrics store takes nothing more of this run: %s", error)


class LoadRecorder:
    """What a script and all it starts take of the machine.

    Samples are thinned as the run grows longer, so that what is kept of them is bounded.
    """

    def __init__(self) -> None:
        self._sampler: SystemSampler | None = None
        self._lock = threading.Lock()
        self._began = time.time()
        self._every = 1
        self._count = 0
        self._samples: list[dict[str, float]] = []

    def start(self, pid: int) -> None:
        """The script has begun."""
        with contextlib.suppress(GuardianFlowError):
            self._began = time.time()
            self._sampler = SystemSampler(interval_s=_SAMPLE_S, pid=pid, callback=self._take)
            self._sampler.start()

    def stop(self) -> None:
        """It has ended."""
        if self._sampler is not None:
            self._sampler.stop()

    @property
    def samples(self) -> list[dict[str, float]]:
        """Seconds since the start, CPU in percent (100 is one core), memory in MB, and where there is one, the GPU."""
        with self._lock:
            return list(self._samples)

    def summary(self) -> dict[str, float]:
        """Means of the GPU's figures over the whole run; what the CPU did is known to the end of the script."""
        if self._sampler is None:
            return {}
        return {name: figure.mean for name, figure in self._sampler.summary().items() if name in _MEANS}

    def _take(self, sample: SystemSample) -> None:
        if not sample.processes:  # it has just ended
            return
        values: dict[str, Any] = sample.values()
        row = {"seconds": round(sample.time - self._began, 3)}
        row.update({name: float(value) for name, value in values.items() if value is not None})
        with self._lock:
            self._count += 1
            if self._count % self._every:
                return
            self._samples.append(row)
            if len(self._samples) >= _KEPT_SAMPLES:
                self._samples = self._samples[::2]
                self._every *= 2


def _thinned(history: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Evenly thinned to what a page can show; the newest point stays."""
    every = -(-len(history) // _KEPT_POINTS)
    return list(history) if every < 2 else [*history[:-1:every], history[-1]]
