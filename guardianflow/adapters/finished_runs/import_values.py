"""What becomes of a finished run's figures and words in MLflow, in our records and in the metrics store."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from guardianflow.adapters.finished_runs.folders import FinishedRun, Points
from guardianflow.core.metrics import MetricRecord, legal_metric_name
from guardianflow.exceptions import InvalidNameError
from guardianflow.text.names import MAX_NAME, validate_name
from guardianflow.text.printable import storable

if TYPE_CHECKING:
    from guardianflow.runs.mlflow_import import StoredPoints

__all__ = [
    "KIND", "MAX_POINTS", "as_stored", "ended_ms", "legal_experiment", "metric_records", "moment_of", "new_rows",
    "started_ms",
]  # fmt: skip

KIND = "import"
"""The kind of run that our records give an imported one, and the source of its figures."""

MAX_POINTS = 20_000
"""Points of one metric that are kept; of longer ones every second, fourth … and the last."""

_RESERVED = "/\\:@?#%"
_LARGEST_STEP = 2**63 - 1


def new_rows(run: FinishedRun, known: StoredPoints) -> Iterator[tuple[str, float, int, int]]:
    """The points that the run in MLflow lacks: name, value, ms, step."""
    otherwise = ended_ms(run) if run.ended else started_ms(run)
    for name, points in run.history.items():
        legal = legal_metric_name(name)
        there = known.get(legal, set())
        for step, value, time_ms in _thinned(points):
            if (_legal_step(step), _shown(value)) not in there:
                yield legal, value, otherwise if time_ms is None else max(0, time_ms), _legal_step(step)


def metric_records(run: FinishedRun, run_id: str, experiment: str) -> Iterator[MetricRecord]:
    """The figures as measurements, with ids that a second import repeats."""
    otherwise = ended_ms(run)
    for name, points in run.history.items():
        legal = legal_metric_name(name)
        times: dict[int, int] = {}
        for step, value, time_ms in _thinned(points):
            # TensorBoard may hold two figures of one step: they are two measurements.
            number = times[step] = times.get(step, 0) + 1
            key = f"{run_id}/{legal}/{step}/{number}"
            yield MetricRecord(
                time=moment_of(otherwise if time_ms is None else time_ms),
                metric=legal,
                value=value,
                task=run.task or None,
                experiment=experiment,
                run_id=run_id,
                source=KIND,
                tags={"epoch": str(step), "kind": run.kind},
                event_id=hashlib.sha256(key.encode()).hexdigest()[:32],
            )


def _thinned(points: Points) -> Points:
    """At most about :data:`MAX_POINTS`: every 2nd, 4th, 8th …, so that a longer run's are among a shorter one's."""
    stride = 1
    while len(points) > MAX_POINTS * stride:
        stride *= 2
    kept = list(points[::stride])
    return kept if not points or (len(points) - 1) % stride == 0 else [*kept, points[-1]]


def as_stored(history: Mapping[str, Points]) -> StoredPoints:
    """All points, as MLflow hands them back."""
    found: StoredPoints = {}
    for name, points in history.items():
        found.setdefault(legal_metric_name(name), set()).update(
            (_legal_step(step), _shown(value)) for step, value, _ in points
        )
    return found


def _shown(value: float) -> str:
    return repr(float("nan") if math.isinf(value) else float(value))  # MLflow gets infinity as NaN


def _legal_step(step: int) -> int:
    return max(-_LARGEST_STEP, min(_LARGEST_STEP, int(step)))


def started_ms(run: FinishedRun) -> int:
    """When a run began, ms since 1970; what nothing tells is now."""
    found = run.started or run.ended
    return max(0, int(found.timestamp() * 1000)) if found else int(time.time() * 1000)


def ended_ms(run: FinishedRun) -> int:
    """When it ended, never before its beginning."""
    return max(started_ms(run), int(run.ended.timestamp() * 1000)) if run.ended else started_ms(run)


def moment_of(milliseconds: int) -> datetime:
    """Milliseconds since 1970 as a time."""
    try:
        return datetime.fromtimestamp(max(0, milliseconds) / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.now(UTC)


def legal_experiment(name: str) -> str:
    """A name as our rule for experiments has it, as near to the given one as that goes."""
    text = unicodedata.normalize("NFC", storable(name))
    kept = "".join("-" if sign in _RESERVED else sign for sign in text)
    kept = "".join(sign for sign in kept if unicodedata.category(sign)[0] != "C" and sign.isprintable())
    kept = kept[:MAX_NAME].strip()
    with contextlib.suppress(InvalidNameError):
        return validate_name(kept, "experiment name")
    return "imported"
