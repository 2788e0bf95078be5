"""What is written down while a wrapped script works: figures from its output and its files, its load."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

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
from guardianflow.scenario.schema import WrapRun

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
        asked: The user's regular expressions, and globs of CSV files.
        skip: Folder whose files are none of the script's.
        automatic: Take ``name: value`` and the like from the output.
    """

    def __init__(
        self, run: TrackedRun, sink: MetricSink, folder: Path, *, asked: WrapRun, skip: Path, automatic: bool
    ) -> None:
        self._run = run
        self._sink: MetricSink | None = sink
        self._lines = {
            stream: MetricLines(asked.metric_patterns, automatic=automatic) for stream in ("stdout", "stderr")
        }
        self._files = GrowingFiles(folder, since=time.time(), patterns=asked.metric_files, skip=[skip])
        self._looks = automatic or bool(asked.metric_patterns)
        self._series = MetricSeries()
        self._due = 0.0
        self._points: dict[str, list[tuple[int, float]]] = {}

    @property
    def last(self) -> dict[str, float]:
        """Last value of each metric."""
        return {name: curve.last for name, curve in self._series.curves.items()}

    @property
    def histories(self) -> dict[str, list[tuple[int, float]]]:
        """Points (step, value) of each metric, evenly thinned to what a page can show; the newest point stays."""
        strides = {name: -(-len(points) // _KEPT_POINTS) for name, points in self._points.items()}
        return {name: [*points[: -1 : strides[name]], points[-1]] for name, points in self._points.items()}

    @property
    def remarks(self) -> list[str]:
        """What could not be taken, and why."""
        found = [remark for lines in self._lines.values() for remark in lines.remarks]
        if self._looks and not self._series.curves:
            logs = "\n".join(end_of_log(self._run.folder / f"{stream}.log") for stream in self._lines)
            found += filter(None, [metric_hint(logs)])
        return [*found, *self._files.remarks, *self._series.remarks]

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
        if self._sink is None or not points:
            return
        about = {"run_id": self._run.run_id, "experiment": self._run.experiment, "source": "wrap"}
        now = datetime.now(UTC)
        try:
            self._sink.save_metrics(
                MetricRecord(time=now, metric=point.name, value=point.value, tags={"step": str(point.step)}, **about)
                for point in points
            )
        except GuardianFlowError as error:  # MLflow has them; a store that is away must not end the script
            self._sink = None
            log.warning("the metrics store takes nothing more of this run: %s", error)


class LoadRecorder:
    """What a script and all it starts take of the machine.

    Attributes:
        samples: Seconds since the start, CPU in percent (100 is one core), memory in MB, and where there is one, the
            GPU. They are thinned as the run grows longer, so that what is kept of them is bounded.
    """

    def __init__(self) -> None:
        self._sampler: SystemSampler | None = None
        self._began = 0.0
        self._every = 1
        self._count = 0
        self.samples: list[dict[str, float]] = []

    def start(self, pid: int) -> None:
        """The script has begun."""
        self._began = time.time()
        self._sampler = SystemSampler(interval_s=_SAMPLE_S, pid=pid, callback=self._take).start()

    def stop(self) -> dict[str, float]:
        """It has ended; the means of the GPU's figures over all of it. What the CPU did is known to its supervisor."""
        if self._sampler is None:
            return {}
        self._sampler.stop()
        return {name: figure.mean for name, figure in self._sampler.summary().items() if name in _MEANS}

    def _take(self, sample: SystemSample) -> None:
        if not sample.processes:  # it has just ended
            return
        self._count += 1
        if self._count % self._every:
            return
        self.samples.append({"seconds": round(sample.time - self._began, 3), **sample.values()})
        if len(self.samples) >= _KEPT_SAMPLES:
            self.samples = self.samples[::2]
            self._every *= 2
