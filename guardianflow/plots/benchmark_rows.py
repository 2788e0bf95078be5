"""Rows of a benchmark, and how they are chosen by mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

__all__ = ["BenchmarkRow", "SustainedRow", "measured"]


class SustainedRow(TypedDict):
    """A longer run without a pause; see :class:`guardianflow.vision.benchmark.profile_results.Sustained`."""

    seconds: float
    latency: Mapping[str, float]
    drift: float


class BenchmarkRow(TypedDict, total=False):
    """One cell of the matrix in one mode, as plain JSON; what wasn't measured is absent, empty or ``None``."""

    label: str
    backend: str
    precision: str
    precision_executed: str
    device: str
    batch: int
    mode: str
    status: str
    reason: str
    run_id: str
    model_size_mb: float | None
    load_s: float
    first_inference_ms: float
    peak_rss_mb: float
    warnings: Sequence[str]
    detection: Mapping[str, float]
    per_class: Sequence[Mapping[str, str | float | None]]
    metrics: Mapping[str, float]
    noise: Mapping[str, float]
    median_interval: Sequence[float] | None
    stages: Mapping[str, Mapping[str, float]]
    latencies_ms: Sequence[float]
    images: int
    query_images: int
    warm: bool
    sustained: SustainedRow | None
    after_idle: Mapping[str, float] | None
    server: Mapping[str, object] | None


def measured(rows: Sequence[BenchmarkRow], mode: str) -> list[BenchmarkRow]:
    """Rows of a mode that were measured; in single_stream those of one image at a time."""
    return [
        row
        for row in rows
        if row.get("status") == "ok"
        and row.get("mode") == mode
        and row.get("metrics")
        and (mode != "single_stream" or row.get("query_images", 1) == 1)
    ]
