"""Routes of the metrics store: what a model in service sends, and questions about it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from guardianflow.core.metrics import MetricRecord
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.routes.access import needs, settings_of
from guardianflow.exceptions import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["router"]

router = APIRouter(prefix="/api/metrics", tags=["metrics"])

MOST_RECORDS = 5_000
AHEAD = timedelta(minutes=5)
"""A clock that is ahead of ours by more would make a silent camera look alive."""

Label = Literal["model", "version", "site", "camera", "task", "experiment", "run_id", "device", "source"]
_ROW: dict[str, Any] = {
    "metric": "latency_ms_p95", "model": "gate", "version": "3", "site": "harbour", "camera": "cam-1", "count": 60,
    "mean": 21.4, "min": 18.0, "max": 33.9, "p50": 21.0, "p95": 27.2, "invalid": 0, "last": 20.7,
    "last_time": "2026-05-01T08:00:00.000Z",
}  # fmt: skip


class Measurement(BaseModel):
    """One measurement."""

    model_config = ConfigDict(extra="forbid")
    time: datetime = Field(description="When it was measured, ISO 8601; without a zone UTC.")
    metric: str = Field(description="Its name, such as latency_ms_p95.")
    value: float = Field(description='The figure; "nan", "inf" and "-inf" are kept as invalid.')
    model: str | None = None
    version: str | None = None
    site: str | None = None
    camera: str | None = None
    task: str | None = None
    experiment: str | None = None
    run_id: str | None = None
    device: str | None = None
    source: str | None = Field("service", description="Who measured it.")
    tags: dict[str, str] = Field(default_factory=dict, max_length=50)
    event_id: str = Field("", description="Sent again with the same one, it is stored once.")

    def record(self, now: datetime) -> MetricRecord:
        """As the store takes it.

        Raises:
            InputError: Its name can't be used, or its time lies in the future.
        """
        record = MetricRecord(**self.model_dump())
        if record.time > now + AHEAD:
            raise InputError(
                f"time {record.time.isoformat()} lies ahead of this server's clock ({now.isoformat()}); "
                "set the sender's clock"
            )
        return record


class Batch(BaseModel):
    """Measurements, at most 5,000."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "records": [
                    {
                        "time": "2026-05-01T08:00:00Z", "metric": "latency_ms_p95", "value": 21.4, "model": "gate",
                        "version": "3", "site": "harbour", "camera": "cam-1",
                        "event_id": "1c0e6a3b7f4f4c0f9a4b2f6a9d3e5c11",
                    }
                ]
            }
        },
    )  # fmt: skip
    records: list[Measurement] = Field(min_length=1, max_length=MOST_RECORDS)


class Saved(BaseModel):
    """What became of a batch, and who is in charge of the models that it names."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"stored": 1, "duplicates": 0, "invalid": 0, "champions": {"gate": "3"}}}
    )
    stored: int
    duplicates: int = Field(description="Seen before, and left alone.")
    invalid: int = Field(description="Of the stored: NaN or infinite.")
    champions: dict[str, str]


class Rows(BaseModel):
    """Rows of figures."""

    model_config = ConfigDict(json_schema_extra={"example": {"rows": [_ROW]}})
    rows: list[dict[str, Any]]
    bucket_s: int | None = Field(None, description="Of a trend: the width of a time bucket in seconds.")


class Labels(BaseModel):
    """Which measurements; each filter may be repeated."""

    model_config = ConfigDict(extra="forbid")
    model: list[str] | None = None
    version: list[str] | None = None
    site: list[str] | None = None
    camera: list[str] | None = None
    task: list[str] | None = None
    experiment: list[str] | None = None
    run_id: list[str] | None = None
    source: list[str] | None = None
    start: str | None = Field(None, description="From this time on, ISO 8601; without a zone UTC.")
    end: str | None = Field(None, description="Before this time.")

    def where(self) -> dict[str, Any]:
        """Filters of the store."""
        return {name: getattr(self, name) for name in Labels.model_fields}


class SummaryQuery(Labels):
    """Figures of each metric and group."""

    metric: list[str] | None = None
    by: list[Label] = Field(["model", "version", "site", "camera"], description="Labels that make a group.")


class TrendQuery(Labels):
    """How a metric went."""

    metric: str
    by: list[Label] = Field([], description="Labels that make a line of their own.")
    points: int = Field(100, ge=1, le=2_000, description="At most so many time buckets a line.")
    bucket_s: int | None = Field(None, ge=1, description="Width of a bucket in seconds.")


class ComparisonQuery(Labels):
    """Models, versions or sites side by side."""

    metric: str
    by: Label = Field("version", description="What is compared.")
    baseline: str | None = Field(None, description="What the others are held against.")


def _store(request: Request) -> MetricsStore:
    return MetricsStore(settings_of(request).database_url)


def _rows(frame: pd.DataFrame) -> Rows:
    items = json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15))
    return Rows(rows=items, bucket_s=frame.attrs.get("bucket_s"))


@router.post("", status_code=201, dependencies=[needs("ingester")])
def save(request: Request, batch: Batch) -> Saved:
    """Store measurements: all of them or, where one can't be used, none."""
    now = datetime.now(UTC)
    records = []
    for place, measurement in enumerate(batch.records):
        try:
            records.append(measurement.record(now))
        except InputError as error:
            raise InputError(f"records.{place}: {error}") from error
    report = _store(request).save_metrics(records)
    named = {record.model for record in records}
    states = ModelRegistry(settings_of(request)).list_models() if named != {None} else []
    champions = {state.name: state.champion for state in states if state.name in named and state.champion}
    return Saved(stored=report.stored, duplicates=report.duplicates, invalid=report.invalid, champions=champions)


@router.get("/summary", dependencies=[needs("viewer")], response_model_exclude_none=True)
def summary(request: Request, asked: Annotated[SummaryQuery, Query()]) -> Rows:
    """Count, mean, range, quantiles and last value of each metric and group."""
    return _rows(_store(request).summary(by=asked.by, metric=asked.metric, **asked.where()))


@router.get("/trend", dependencies=[needs("viewer")])
def trend(request: Request, asked: Annotated[TrendQuery, Query()]) -> Rows:
    """A metric's figures in each time bucket; a bucket without measurements has count 0 and no figures."""
    store = _store(request)
    return _rows(store.trend(asked.metric, by=asked.by, points=asked.points, bucket_s=asked.bucket_s, **asked.where()))


@router.get("/comparison", dependencies=[needs("viewer")], response_model_exclude_none=True)
def comparison(request: Request, asked: Annotated[ComparisonQuery, Query()]) -> Rows:
    """Models, versions or sites side by side, against one of them."""
    return _rows(_store(request).comparison(asked.metric, by=asked.by, baseline=asked.baseline, **asked.where()))
