"""A run that is already over, written into MLflow as a whole: adopted from a script, or imported from a folder.

A run written here ends last. One that is still RUNNING was cut off in the middle, and its writer may delete it and
begin anew; so whoever looks for what was brought in before counts runs that have ended.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from guardianflow.core.metrics import legal_metric_name
from guardianflow.exceptions import TrackingUnavailableError
from guardianflow.runs.delivery import batches, brief
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.redaction import flatten_params, redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

__all__ = ["MAX_TAG", "MetricPoint", "StoreRun", "write_finished_run"]

MetricPoint = tuple[int, float, int | None]
"""Step, value, and when it was measured in ms since 1970, where that is known."""

MAX_TAG = 5_000
_METRICS_A_REQUEST, _PARAMS_A_REQUEST, _TAGS_A_REQUEST = 1_000, 100, 100
_LARGEST_STEP = 2**63 - 1
_MAX_NAME = 250


class StoreRun(Protocol):
    """What a reader of MLflow's stores gives for a run that is over."""

    name: str
    parameters: dict[str, Any]
    history: Mapping[str, Sequence[MetricPoint]]
    status: str
    started: datetime | None
    ended: datetime | None
    artifacts: tuple[Path, ...]
    tags: dict[str, str]
    source_id: str
    parent_id: str

    def artifact_name(self, path: Path) -> str:
        """An artifact's name below the run's."""


def write_finished_run(client: MlflowClient, run: StoreRun, *, experiment_id: str, tags: Mapping[str, str]) -> str:
    """Write a finished run: names as MLflow takes them, secrets masked, in requests of a size that it accepts.

    What is no number is left out of the metrics; NaN and infinity are kept, as MLflow keeps them. Two names that
    become the same one are told apart by a number at the end; nested parameters are flattened, see
    :func:`~guardianflow.text.redaction.flatten_params`. Artifacts are the caller's, who may log them afterwards.

    Args:
        client: From :func:`~guardianflow.runs.mlflow_runs.make_client`.
        run: What is written.
        experiment_id: Where to.
        tags: Beside its own; values are cut at :data:`MAX_TAG` characters.

    Returns:
        The run's id.

    Raises:
        TrackingUnavailableError: MLflow refused it or doesn't answer; what was begun has been deleted.
    """
    from mlflow.entities import Param, RunTag

    began, over = _ms(run.started or run.ended), _ms(run.ended or run.started)
    run_id = ""
    try:
        made = client.create_run(experiment_id, start_time=began, run_name=(run.name or "unnamed")[:_MAX_NAME])
        run_id = str(made.info.run_id)
        own_tags = [RunTag(_legal(key), str(value)[:MAX_TAG]) for key, value in redact({**run.tags, **tags}).items()]
        own_params = [Param(key, value) for key, value in flatten_params(redact(run.parameters)).items()]
        for some in batches(own_tags, _TAGS_A_REQUEST):
            client.log_batch(run_id, tags=some)
        for some in batches(own_params, _PARAMS_A_REQUEST):
            client.log_batch(run_id, params=some)
        for some in batches(_points(run.history, began), _METRICS_A_REQUEST):
            client.log_batch(run_id, metrics=some)
        client.set_terminated(run_id, status=run.status or RunStatus.FINISHED, end_time=max(began, over))
    except BaseException as error:  # Ctrl-C, too: half a run helps nobody
        if run_id:
            with contextlib.suppress(Exception):  # it stays RUNNING then, which says the same
                client.delete_run(run_id)
        if not isinstance(error, Exception):
            raise
        raise TrackingUnavailableError(
            f"MLflow did not take the run {run.name!r} ({brief(error)}); check it with `guardianflow doctor` and try "
            "again"
        ) from error
    return run_id


def _ms(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment else 0


def _points(metrics: Mapping[str, Sequence[MetricPoint]], started_ms: int) -> Iterator[Metric]:
    from mlflow.entities import Metric

    taken: set[str] = set()
    for name, points in metrics.items():
        key = base = legal_metric_name(name)
        number = 2
        while key in taken:
            key, number = f"{base[:240]}_{number}", number + 1
        taken.add(key)
        for step, value, time_ms in points:
            if (figure := _as_number(value)) is not None:
                place = max(-_LARGEST_STEP, min(_LARGEST_STEP, int(step)))
                yield Metric(key, figure, int(started_ms if time_ms is None else time_ms), place)


def _as_number(value: Any) -> float | None:
    try:
        figure = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    # MLflow's databases keep the largest double for infinity; PostgreSQL would refuse infinity itself.
    return figure if math.isfinite(figure) or math.isnan(figure) else math.copysign(1.7976931348623157e308, figure)


def _legal(key: str) -> str:
    return key if key.startswith("mlflow.") else legal_metric_name(key)
