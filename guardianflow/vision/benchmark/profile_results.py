"""What a profile is asked and what it found, as data: no runtime and no clock in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError

__all__ = [
    "MODES",
    "AfterIdle",
    "LatencySummary",
    "ModeResult",
    "ProfileConfig",
    "ServerFigures",
    "StageSummary",
    "Sustained",
    "WarmUp",
]

MODES = ("single_stream", "offline", "server")
"""MLPerf's names: latency of one query after another, throughput of all at once, Poisson arrivals."""


@dataclass(frozen=True)
class ProfileConfig:
    """How a profile is taken.

    Attributes:
        seconds: Least measured time of one repetition, s.
        repeats: Repetitions; the spread of their figures is the noise floor.
        rate: Arrivals per second in server mode; 0 takes 70 % of what the pipeline does back to back.
        bound_ms: Bound of the 99th percentile in server mode, ms; 0: none is stated.
        warm_up_s: Longest warm-up, s; 0 takes the greater of 2 s and ``seconds``.
        sustained: Add a longer run without a pause to single_stream.
        after_idle: Add the latency of the first query after a pause to single_stream.
        level: Confidence level of the median's interval.
        seed: Of the order of images and of the arrivals.
    """

    seconds: float = 3.0
    repeats: int = 3
    rate: float = 0.0
    bound_ms: float = 0.0
    warm_up_s: float = 0.0
    sustained: bool = True
    after_idle: bool = True
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        rules = (
            ("seconds", self.seconds > 0, "above 0, such as 3"),
            ("repeats", self.repeats >= 1, "at least 1, such as 3"),
            ("rate", self.rate >= 0, "0 (chosen from the throughput) or the arrivals per second"),
            ("bound_ms", self.bound_ms >= 0, "0 (none) or a latency in ms"),
            ("warm_up_s", self.warm_up_s >= 0, "0 (chosen) or seconds"),
            ("level", 0 < self.level < 1, "between 0 and 1, such as 0.95"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise InputError(f"{name} of a profile must be {rule}, not {getattr(self, name)!r}")


@dataclass(frozen=True)
class LatencySummary:
    """A distribution of latencies, nothing cut off.

    Attributes:
        count: Latencies in it.
        mean: Mean, ms.
        p50: Median, ms.
        p95: 95th percentile, ms.
        p99: 99th percentile, ms.
        max: The slowest, ms.
        p50_low: Lower end of the median's confidence interval, ms; ``None``: too few latencies for one.
        p50_high: Upper end, ms.
        level: Confidence level of that interval.
    """

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    p50_low: float | None = None
    p50_high: float | None = None
    level: float = 0.95


@dataclass(frozen=True)
class WarmUp:
    """What ran before the measurement.

    Attributes:
        queries: How many.
        seconds: How long, s.
        stable: Whether the rule was met before the time was up.
        rule: The rule, for people.
    """

    queries: int
    seconds: float
    stable: bool
    rule: str


@dataclass(frozen=True)
class StageSummary:
    """One stage of the pipeline.

    Attributes:
        name: ``decode``, ``preprocess``, ``forward``, ``postprocess`` or ``tracking``.
        p50_ms: Median per image, ms.
        p95_ms: 95th percentile per image, ms.
        mean_ms: Mean per image, ms.
        share: Time in this stage over the wall clock; the shares sum to more than 1 where stages overlap.
    """

    name: str
    p50_ms: float
    p95_ms: float
    mean_ms: float
    share: float


@dataclass(frozen=True)
class Sustained:
    """A longer run without a pause.

    Attributes:
        seconds: How long, s.
        latency: All of it.
        drift: Median of its last quarter over the median of its first, less 1.
    """

    seconds: float
    latency: LatencySummary
    drift: float


@dataclass(frozen=True)
class AfterIdle:
    """The first query after a pause.

    Attributes:
        pause_s: Length of each pause, s.
        pauses: How many.
        p50: Median latency of the first query after a pause, ms.
        max: The slowest of them, ms.
        ratio: That median over the median of the busy pipeline.
    """

    pause_s: float
    pauses: int
    p50: float
    max: float
    ratio: float


@dataclass(frozen=True)
class ServerFigures:
    """Server mode: images arrive when they like, and each latency counts from its arrival.

    Attributes:
        target_rate: Arrivals per second asked for.
        target_from: Where that rate comes from, for people.
        offered_rate: Arrivals per second that the seeded schedule really had.
        achieved_rate: Images finished per second, from the first arrival to the last answer.
        utilisation: Offered rate over what the server does while images wait; at 1 and above the queue grows.
        waiting_at_end: Images that still waited at the last arrival, the most of all repetitions.
        sustained: Whether the queue stayed bounded.
        queueing_ms_p50: Median wait before an image was taken, ms.
        queueing_ms_p99: 99th percentile of that wait, ms.
        bound_ms: Bound of the 99th percentile, ms; 0: none is stated.
        within_bound: Share of images answered within the bound; ``None`` without one.
        met: Whether the 99th percentile is within the bound and the rate was sustained; ``None`` without one.
    """

    target_rate: float
    target_from: str
    offered_rate: float
    achieved_rate: float
    utilisation: float
    waiting_at_end: int
    sustained: bool
    queueing_ms_p50: float
    queueing_ms_p99: float
    bound_ms: float = 0.0
    within_bound: float | None = None
    met: bool | None = None


@dataclass(frozen=True, eq=False)
class ModeResult:
    """One mode of one pipeline, measured.

    Attributes:
        mode: One of :data:`MODES`.
        batch: Images per forward pass at most.
        query_images: Images per query: the batch in single_stream (MLPerf calls it MultiStream above 1), else 1.
        images: Images measured in all repetitions.
        failed_images: Images that could not be read; they are in no figure.
        seconds: Wall clock of all repetitions, s.
        throughput_fps: Images per second, the median of the repetitions.
        latency: Of all repetitions together; ``None`` offline, where no single image has one.
        repeats: Repetitions.
        noise: Catalogue name → noise floor: (largest − smallest) / median of the repetitions' figures.
            Differences below it say nothing. Empty with one repetition.
        stages: Each stage apart.
        system: Catalogue name → figure over the measured part (means; ``rss_mb`` and ``gpu_mem_mb`` are peaks).
        warm_up: What ran before.
        sustained: single_stream only.
        after_idle: single_stream only.
        server: server only.
        warnings: What a reader should know, in sentences.
        facts: How it was measured: clock, garbage collection, percentile method.
        latencies_ms: float64 (n,): every latency in the order of completion.
        repetition: int32 (n,): which repetition it belongs to.
    """

    mode: str
    batch: int
    query_images: int
    images: int
    failed_images: int
    seconds: float
    throughput_fps: float
    latency: LatencySummary | None
    repeats: int
    noise: Mapping[str, float]
    stages: tuple[StageSummary, ...]
    system: Mapping[str, float]
    warm_up: WarmUp
    sustained: Sustained | None = None
    after_idle: AfterIdle | None = None
    server: ServerFigures | None = None
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    latencies_ms: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    repetition: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def metrics(self) -> dict[str, float]:
        """Catalogue name → figure; what wasn't measured is absent."""
        found = {"throughput_fps": self.throughput_fps, **self.system}
        if self.latency is not None:
            found |= {f"latency_ms_{name}": getattr(self.latency, name) for name in ("mean", "p50", "p95", "p99")}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything but the raw latencies, as plain JSON."""
        left_out = {"latencies_ms", "repetition"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The other way; the raw latencies are empty."""
        parts: dict[str, Any] = dict(values)
        for name, kind in _PARTS.items():
            if parts.get(name) is not None:
                parts[name] = kind(**parts[name])
        if parts.get("sustained") is not None:
            latency = LatencySummary(**parts["sustained"]["latency"])
            parts["sustained"] = Sustained(**{**parts["sustained"], "latency": latency})
        parts["stages"] = tuple(StageSummary(**stage) for stage in parts["stages"])
        parts["warnings"] = tuple(parts.get("warnings", ()))
        return cls(**parts)

    def save_latencies(self, folder: Path) -> Path:
        """Write the raw latencies as ``latencies_<mode>.npy``: float64 (2, n), ms and repetition."""
        path = folder / f"latencies_{self.mode}.npy"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, np.stack([self.latencies_ms, self.repetition.astype(np.float64)]), allow_pickle=False)
        return path

    def with_latencies(self, folder: Path) -> Self:
        """This result with the raw latencies that were saved in a folder, where they are there."""
        path = folder / f"latencies_{self.mode}.npy"
        if not path.is_file():
            return self
        raw = np.load(path, allow_pickle=False)
        return replace(self, latencies_ms=raw[0], repetition=raw[1].astype(np.int32))


_PARTS = {"latency": LatencySummary, "warm_up": WarmUp, "after_idle": AfterIdle, "server": ServerFigures}
