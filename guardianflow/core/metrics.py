"""What is measured: the catalogue of metric names, one measurement, and where it goes.

Runners write :class:`MetricRecord` to a :class:`MetricSink` and know nothing of the store behind.
What reads the machine itself lies in :mod:`guardianflow.machine.system` and is offered here too.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.machine.system import GpuMetrics, SystemSample, SystemSampler, get_gpu_metrics

__all__ = [
    "CATALOGUE",
    "Direction",
    "GpuMetrics",
    "MetricRecord",
    "MetricSink",
    "MetricSpec",
    "NullSink",
    "SaveReport",
    "SystemSample",
    "SystemSampler",
    "get_gpu_metrics",
    "get_model_size",
    "legal_metric_name",
    "sample_sink",
    "spec",
    "system_records",
]


class Direction(Enum):
    """Which way is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


@dataclass(frozen=True)
class MetricSpec:
    """Name, unit and direction of one metric.

    Attributes:
        name: As it stands in MLflow and in the store.
        unit: ``"fraction"`` is 0–1, ``"percent"`` is 0–100; else the unit itself.
        direction: Which way is better.
        group: ``"detection"``, ``"mot"``, ``"system"`` or ``"training"``.
        description: One line for a page.
    """

    name: str
    unit: str
    direction: Direction
    group: str
    description: str

    @property
    def higher_is_better(self) -> bool | None:
        """``True``, ``False``, or ``None`` where neither way is better."""
        return None if self.direction is Direction.NEITHER else self.direction is Direction.HIGHER


def _catalogue() -> Mapping[str, MetricSpec]:
    up, down, none = Direction.HIGHER, Direction.LOWER, Direction.NEITHER
    rows: list[tuple[str, str, Direction, str, str]] = [
        ("map50", "fraction", up, "detection", "Mean average precision at IoU 0.50"),
        ("map50_95", "fraction", up, "detection", "Mean average precision over IoU 0.50–0.95"),
        ("precision", "fraction", up, "detection", "Share of detections that are right"),
        ("recall", "fraction", up, "detection", "Share of objects that are found"),
        ("f1", "fraction", up, "detection", "Harmonic mean of precision and recall"),
        ("hota", "fraction", up, "mot", "Higher order tracking accuracy"),
        ("deta", "fraction", up, "mot", "Detection part of HOTA"),
        ("assa", "fraction", up, "mot", "Association part of HOTA"),
        ("mota", "fraction", up, "mot", "Multi-object tracking accuracy (CLEAR)"),
        ("motp", "fraction", up, "mot", "Mean IoU of matched boxes (CLEAR)"),
        ("idf1", "fraction", up, "mot", "F1 of identities"),
        ("idsw", "count", down, "mot", "Identity switches"),
        ("fp", "count", down, "mot", "False positives"),
        ("fn", "count", down, "mot", "False negatives"),
        ("mt", "count", up, "mot", "Mostly tracked objects (over 80% of their life)"),
        ("ml", "count", down, "mot", "Mostly lost objects (under 20% of their life)"),
        ("frag", "count", down, "mot", "Fragmentations of tracks"),
        ("latency_ms_mean", "ms", down, "system", "Mean latency, end to end"),
        ("latency_ms_p50", "ms", down, "system", "Median latency, end to end"),
        ("latency_ms_p95", "ms", down, "system", "95th percentile of latency"),
        ("latency_ms_p99", "ms", down, "system", "99th percentile of latency"),
        ("throughput_fps", "images/s", up, "system", "Images per second, end to end"),
        ("gpu_util", "percent", none, "system", "GPU utilisation"),
        ("gpu_mem_mb", "MB", down, "system", "GPU memory in use"),
        ("gpu_power_w", "W", down, "system", "GPU power draw"),
        ("gpu_temp_c", "°C", down, "system", "GPU temperature"),
        ("energy_j_per_image", "J", down, "system", "Energy per image"),
        ("cpu_util", "percent", none, "system", "CPU utilisation of the process, 100 is one core"),
        ("rss_mb", "MB", down, "system", "Resident memory of the process"),
        ("model_size_mb", "MB", down, "system", "Size of the model file or folder"),
        ("wall_seconds", "s", down, "system", "Wall-clock time of the script"),
        ("cpu_seconds", "s", down, "system", "CPU time of the script and all it started"),
        ("epoch_seconds", "s", down, "training", "Wall-clock time of one epoch"),
        ("train_images_per_s", "images/s", up, "training", "Training speed"),
        ("train_seconds", "s", down, "training", "Wall-clock time of the training"),
        ("peak_rss_mb", "MB", down, "training", "Peak resident memory of the training process"),
        ("peak_gpu_mem_mb", "MB", down, "training", "Peak GPU memory of the training process"),
    ]
    return MappingProxyType({row[0]: MetricSpec(*row) for row in rows})


CATALOGUE: Mapping[str, MetricSpec] = _catalogue()
"""Every metric name that the product itself writes; users may write others."""

_ILLEGAL = re.compile(r"[^A-Za-z0-9_\-./ ]+")
_MAX_NAME = 250


def spec(name: str) -> MetricSpec:
    """The catalogue's entry of a metric.

    Raises:
        NotFoundError: The metric is not in the catalogue.
    """
    if name not in CATALOGUE:
        raise NotFoundError(f"metric {name!r} is not in the catalogue; known: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def legal_metric_name(name: str) -> str:
    """A name that MLflow accepts: ``metrics/mAP50(B)`` becomes ``metrics/mAP50_B``."""
    cleaned = _ILLEGAL.sub("_", name).strip("_ ")
    # MLflow takes a name for a path: no part of it may be empty, `.` or `..`.
    cleaned = "/".join(part for part in cleaned.split("/") if part.strip(" ."))
    return cleaned[:_MAX_NAME].rstrip("/ ") or "unnamed"


@dataclass(frozen=True)
class MetricRecord:
    """One measurement, from a run or from a model in service.

    ``value`` may be NaN or infinite: the store keeps such a record as *invalid* (see
    :attr:`invalid`) and never counts it into an aggregate.

    Attributes:
        time: When it was measured; time-zone aware, or naive and then taken as UTC.
        metric: Name, see :data:`CATALOGUE`.
        value: The figure, in the catalogue's unit.
        model: Registered model name.
        version: Its version.
        site: Site name.
        camera: Camera name.
        task: ``"detection"`` or ``"tracking"``.
        experiment: Experiment name.
        run_id: MLflow run.
        device: Device it was measured on.
        source: Who measured it (``"training"``, ``"inference"``, ``"api"`` …).
        tags: Further text labels.
        event_id: Unique key of the measurement. Writing it twice stores it once. Left out, it is
            derived from everything above, so that a repeated write is still recognised.
    """

    time: datetime
    metric: str
    value: float
    model: str | None = None
    version: str | None = None
    site: str | None = None
    camera: str | None = None
    task: str | None = None
    experiment: str | None = None
    run_id: str | None = None
    device: str | None = None
    source: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    event_id: str = ""

    def __post_init__(self) -> None:
        if not self.metric or self.metric != legal_metric_name(self.metric):
            raise InputError(
                f"metric name {self.metric!r} is not allowed: letters, digits, space and _-./ only, "
                f"at most {_MAX_NAME}. Use {legal_metric_name(self.metric)!r}."
            )
        time = self.time if self.time.tzinfo else self.time.replace(tzinfo=UTC)
        object.__setattr__(self, "time", time.astimezone(UTC))
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "tags", MappingProxyType({str(k): str(v) for k, v in self.tags.items()}))
        if not self.event_id:
            object.__setattr__(self, "event_id", self._derived_id())

    @property
    def invalid(self) -> str | None:
        """``"nan"``, ``"inf"`` or ``"-inf"`` where the value is no number; else ``None``."""
        if math.isnan(self.value):
            return "nan"
        if math.isinf(self.value):
            return "inf" if self.value > 0 else "-inf"
        return None

    def _derived_id(self) -> str:
        parts: list[str] = [self.time.isoformat(), self.metric, repr(self.value)]
        parts += [
            "" if part is None else str(part)
            for part in (
                self.model, self.version, self.site, self.camera, self.task, self.experiment,
                self.run_id, self.device, self.source,
            )
        ]  # fmt: skip
        parts += [f"{key}={value}" for key, value in sorted(self.tags.items())]
        # "surrogatepass": a label that no store takes is the store's to refuse, with its own words.
        return hashlib.sha256("\x1f".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True)
class SaveReport:
    """What became of a batch: rows stored, seen before, and kept as invalid (a part of stored)."""

    stored: int
    duplicates: int = 0
    invalid: int = 0


@runtime_checkable
class MetricSink(Protocol):
    """Where runners send their measurements."""

    def save_metrics(self, records: Iterable[MetricRecord]) -> SaveReport:
        """Store a batch; idempotent by ``event_id``."""
        ...


class NullSink:
    """A sink that drops everything, for a run without a store."""

    def save_metrics(self, records: Iterable[MetricRecord]) -> SaveReport:
        """Count the records and forget them."""
        return SaveReport(stored=sum(1 for _ in records))


def get_model_size(path: str | Path) -> float:
    """Size of a model file, or of all files in a model folder, in MB (10^6 bytes).

    Raises:
        NotFoundError: Nothing lies at ``path``.
    """
    target = Path(path)
    if target.is_file():
        return target.stat().st_size / 1e6
    if target.is_dir():
        return sum(item.stat().st_size for item in target.rglob("*") if item.is_file()) / 1e6
    raise NotFoundError(f"no model file or folder at {target}")


_GPU_METRICS = ("gpu_util", "gpu_mem_mb", "gpu_power_w", "gpu_temp_c")


def system_records(sample: SystemSample, *, source: str = "system", **labels: str | None) -> list[MetricRecord]:
    """A sample as measurements: one record a figure, and one a figure and GPU (tag ``gpu``).

    Args:
        sample: What :class:`SystemSampler` measured.
        source: Who measured it.
        labels: ``model``, ``run_id``, ``experiment`` … as :class:`MetricRecord` has them.
    """
    time = datetime.fromtimestamp(sample.time, UTC)

    def record(metric: str, value: float, tags: Mapping[str, str]) -> MetricRecord:
        return MetricRecord(time=time, metric=metric, value=value, source=source, tags=tags, **labels)  # type: ignore[arg-type]

    own = {"cpu_util": sample.cpu_util, "rss_mb": sample.rss_mb}
    records = [record(name, value, {}) for name, value in own.items() if value is not None]
    for gpu in sample.gpus:
        tags = {"gpu": str(gpu.index), "gpu_name": gpu.name}
        figures = {name: getattr(gpu, name) for name in _GPU_METRICS}
        records += [record(name, value, tags) for name, value in figures.items() if value is not None]
    return records


def sample_sink(sink: MetricSink, **labels: str | None) -> Callable[[SystemSample], None]:
    """A callback for :class:`SystemSampler` that writes every sample to a sink.

    Example:
        ``SystemSampler(callback=sample_sink(store, run_id=run_id, experiment="site-a"))``
    """

    def write(sample: SystemSample) -> None:
        sink.save_metrics(system_records(sample, **labels))  # type: ignore[arg-type]

    return write
