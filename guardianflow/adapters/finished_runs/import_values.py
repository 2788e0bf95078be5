"""What becomes of a finished run's figures and words in MLflow, in our records and in the metrics store."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from guardianflow.adapters.finished_runs.folders import FinishedRun, Points, moment
from guardianflow.core.metrics import MetricRecord
from guardianflow.exceptions import InvalidNameError
from guardianflow.runs.mlflow_import import StoredPoints
from guardianflow.text.names import MAX_NAME, validate_name
from guardianflow.text.printable import storable

__all__ = ["KIND", "MAX_POINTS", "as_stored", "legal_experiment", "metric_records", "milliseconds", "new_rows", "span"]

KIND = "import"
"""The kind of run that our records give an imported one, and the source of its figures."""

MAX_POINTS = 20_000
"""Points of one metric that are kept; of longer ones every second, fourth … and the last."""

_RESERVED = "/\\:@?#%"


def span(run: FinishedRun) -> tuple[datetime, datetime]:
    """When a run began and ended; what nothing tells is now, and no end is before its beginning."""
    began = run.started or run.ended or datetime.now(UTC)
    return began, max(began, run.ended or began)


def milliseconds(time: datetime) -> int:
    """A time as MLflow takes it, since 1970."""
    return max(0, int(time.timestamp() * 1000))


def new_rows(run: FinishedRun, known: StoredPoints) -> Iterator[tuple[str, float, int, int]]:
    """The points that the run in MLflow lacks: name, value, ms, step."""
    for name, step, value, time_ms in _points(run):
        if (step, _shown(value)) not in known.get(name, ()):
            yield name, value, time_ms, step


def metric_records(run: FinishedRun, run_id: str, experiment: str) -> Iterator[MetricRecord]:
    """The figures as measurements, with ids that a second import repeats."""
    seen: Counter[tuple[str, int]] = Counter()
    ended = span(run)[1]
    for name, step, value, time_ms in _points(run):
        # TensorBoard may hold two figures of one step: they are two measurements.
        seen[name, step] += 1
        key = f"{run_id}/{name}/{step}/{seen[name, step]}"
        yield MetricRecord(
            time=moment(time_ms / 1000) or ended,
            metric=name,
            value=value,
            task=run.task or None,
            experiment=experiment,
            run_id=run_id,
            source=KIND,
            tags={"epoch": str(step), "kind": run.kind},
            event_id=hashlib.sha256(key.encode()).hexdigest()[:32],
        )


def as_stored(history: Mapping[str, Points]) -> StoredPoints:
    """All points, as MLflow hands them back."""
    return {name: {(step, _shown(value)) for step, value, _ in points} for name, points in history.items()}


def _points(run: FinishedRun) -> Iterator[tuple[str, int, float, int]]:
    """Name, step, value and ms of at most about :data:`MAX_POINTS` a metric, where no time is told the run's end.

    Every 2nd, 4th, 8th …, so that a longer run's are among a shorter one's.
    """
    ended = milliseconds(span(run)[1])
    for name, points in run.history.items():
        stride = 1
        while len(points) > MAX_POINTS * stride:
            stride *= 2
        for place, (step, value, time_ms) in enumerate(points):
            if place % stride == 0 or place == len(points) - 1:
                yield name, step, value, ended if time_ms is None else max(0, time_ms)


def _shown(value: float) -> str:
    return repr(math.nan if math.isinf(value) else float(value))  # MLflow gets infinity as NaN


def legal_experiment(name: str) -> str:
    """A name as our rule for experiments has it, as near to the given one as that goes."""
    kept = "".join("-" if sign in _RESERVED else sign for sign in storable(name) if sign.isprintable())
    try:
        return validate_name(kept[:MAX_NAME].strip(), "experiment name")
    except InvalidNameError:
        return "imported"
