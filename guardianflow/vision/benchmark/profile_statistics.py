"""Figures over latencies: percentiles, the interval of a median, the noise floor, and when a warm-up is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError
from guardianflow.vision.benchmark.profile_results import LatencySummary

__all__ = ["PERCENTILES", "Stability", "median_interval", "noise_floor", "summarize", "tail_warning"]

PERCENTILES = "linear interpolation between order statistics (Hyndman and Fan's type 7)"
_TAIL_COUNT = 100


def summarize(latencies_ms: npt.ArrayLike, *, level: float = 0.95) -> LatencySummary:
    """What a distribution of latencies is; no outlier is left out.

    Args:
        latencies_ms: (n,), ms, n at least 1.
        level: Confidence level of the median's interval.

    Raises:
        InputError: There are none.
    """
    values = np.asarray(latencies_ms, dtype=np.float64)
    if not values.size:
        raise InputError("there are no latencies to summarize; no query was answered")
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
    low, high = median_interval(values, level=level)
    return LatencySummary(len(values), float(values.mean()), p50, p95, p99, float(values.max()), low, high, level)


def median_interval(values: npt.ArrayLike, *, level: float = 0.95) -> tuple[float | None, float | None]:
    """Confidence interval of the median from order statistics: no distribution is assumed.

    With the values sorted, x(j) and x(n+1-j) enclose the median with probability 1 - 2 P(B <= j - 1) for a
    binomial B(n, 1/2) (David and Nagaraja, Order Statistics, section 7.1); j is the largest for which that is at
    least ``level``. The values are taken as independent; what queries have in common shows in the noise floor.

    Args:
        values: (n,).
        level: Confidence level, 0 to 1.

    Returns:
        Both ends; ``None`` twice where n is too small for that level (below 6 at 95 %).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    if not count:
        return None, None
    steps = np.arange(1, count + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((count - steps + 1) / steps))]) - count * np.log(2.0)
    rank = int(np.searchsorted(np.cumsum(np.exp(logs)), (1 - level) / 2, side="right"))
    if rank == 0:
        return None, None
    return float(ordered[rank - 1]), float(ordered[count - rank])


def noise_floor(repetitions: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """How much each figure moves when the same thing is measured again: (largest - smallest) / median.

    Args:
        repetitions: Name → figure, one mapping a repetition.

    Returns:
        Name → relative spread; empty with fewer than two repetitions.
    """
    if len(repetitions) < 2:
        return {}
    spread = {}
    for name in repetitions[0]:
        figures = np.array([figures[name] for figures in repetitions])
        middle = float(np.median(figures))
        if middle > 0:
            spread[name] = float(np.ptp(figures)) / middle
    return spread


def tail_warning(count: int) -> str | None:
    """What to know of a 99th percentile over few values; ``None`` where there are enough."""
    if count >= _TAIL_COUNT:
        return None
    return f"the 99th percentile rests on {count} latencies and is little else than their maximum; measure for longer"


@dataclass
class Stability:
    """Tells when a warm-up is over: the medians of two neighbouring windows agree.

    Attributes:
        window: Queries in a window.
        tolerance: Greatest relative difference of the two medians.
        least: Fewest queries before it may be stable.
    """

    window: int = 8
    tolerance: float = 0.05
    least: int = 20
    _times: list[float] = field(default_factory=list)

    @property
    def rule(self) -> str:
        """The rule, for people."""
        return (
            f"the medians of the last {self.window} and the {self.window} queries before differ by at most "
            f"{self.tolerance:.0%}, after at least {self.least} queries"
        )

    @property
    def count(self) -> int:
        """Queries so far."""
        return len(self._times)

    @property
    def recent(self) -> float:
        """Median of the last window."""
        return float(np.median(self._times[-self.window :]))

    def add(self, duration: float) -> bool:
        """Take one more duration; whether it is stable now."""
        self._times.append(duration)
        if len(self._times) < max(self.least, 2 * self.window):
            return False
        before = float(np.median(self._times[-2 * self.window : -self.window]))
        return abs(self.recent - before) <= self.tolerance * before
