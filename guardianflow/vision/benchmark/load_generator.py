"""Images that arrive when they like: the load of server mode, apart from the clock it runs by.

The load is open: arrivals are drawn before anything runs and don't wait for answers, and each latency
counts from its arrival. A server that stalls is charged for everyone who had to wait meanwhile; a
generator that asks again only after the answer would leave them out (coordinated omission).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Clock", "ServedLoad", "WallClock", "poisson_arrivals", "serve_arrivals"]

_SPIN_S = 0.0005
_QUEUE_SHARE = 0.05
_QUEUE_BATCHES = 8

Floats = npt.NDArray[np.float64]


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Seconds; only differences count."""
        ...

    def wait_until(self, moment: float) -> None:
        """Come back at that moment, at once if it has passed."""
        ...


class WallClock:
    """Real time. Waits by sleeping and, for the last half millisecond, by looking again."""

    def now(self) -> float:
        """Seconds of the performance counter."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """Come back at that moment, at once if it has passed."""
        remaining = moment - time.perf_counter() - _SPIN_S
        if remaining > 0:
            time.sleep(remaining)
        while time.perf_counter() < moment:
            time.sleep(0)


def poisson_arrivals(rate: float, count: int, *, seed: int | tuple[int, ...]) -> Floats:
    """Arrival times of a Poisson process: independent exponential gaps.

    Args:
        rate: Arrivals per second.
        count: How many.
        seed: The same seed gives the same times.

    Returns:
        float64 (count,), s after the start, increasing.
    """
    return np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, count))


@dataclass(frozen=True, eq=False)
class ServedLoad:
    """What became of each arrival.

    Attributes:
        arrived: float64 (n,), s after the start.
        taken: float64 (n,), when the server took it.
        answered: float64 (n,), when its answer was there.
        size: int32 (n,), images in the batch that it was served with.
        batch: The largest batch allowed.
    """

    arrived: Floats
    taken: Floats
    answered: Floats
    size: npt.NDArray[np.int32]
    batch: int

    @property
    def latency_ms(self) -> Floats:
        """From arrival to answer, ms."""
        return (self.answered - self.arrived) * 1e3

    @property
    def queueing_ms(self) -> Floats:
        """From arrival until it was taken, ms."""
        return (self.taken - self.arrived) * 1e3

    @property
    def offered_rate(self) -> float:
        """Arrivals per second of the schedule, from its start to the last of them."""
        return len(self.arrived) / float(self.arrived[-1])

    @property
    def achieved_rate(self) -> float:
        """Answers per second, from the start to the last of them."""
        return len(self.answered) / float(self.answered[-1])

    @property
    def utilisation(self) -> float:
        """Offered rate over the rate at which full batches are served; without any, the share of time at work."""
        service = (self.answered - self.taken) / self.size  # s per image of its batch
        full = self.size == self.batch
        if full.any():
            return self.offered_rate * float(service[full].mean())
        return float(service.sum()) / float(self.answered[-1])

    @property
    def waiting_at_end(self) -> int:
        """Images that had arrived and weren't taken when the last one came."""
        return int((self.taken > self.arrived[-1]).sum())

    @property
    def sustained(self) -> bool:
        """Whether the queue stayed bounded.

        It grows where the utilisation reaches 1, or where more than 5 % of all arrivals (and more than eight
        batches) wait at the end.
        """
        bounded = self.waiting_at_end <= max(_QUEUE_SHARE * len(self.arrived), _QUEUE_BATCHES * self.batch)
        return self.utilisation < 1.0 and bounded


def serve_arrivals(
    arrivals: Floats, serve: Callable[[range], None], *, batch: int = 1, clock: Clock | None = None
) -> ServedLoad:
    """Play a schedule against a server that takes, whenever it is free, up to a batch of who waits.

    Args:
        arrivals: (n,), s after the start, increasing.
        serve: Is given the positions of the arrivals to answer; returns when the answers are there.
        batch: Most images at once.
        clock: Default :class:`WallClock`.
    """
    timer = clock or WallClock()
    count = len(arrivals)
    taken, answered, size = np.empty(count), np.empty(count), np.empty(count, np.int32)
    start, first = timer.now(), 0
    while first < count:
        timer.wait_until(start + float(arrivals[first]))
        now = timer.now() - start
        last = min(max(int(np.searchsorted(arrivals, now, side="right")), first + 1), first + batch)
        serve(range(first, last))
        taken[first:last], answered[first:last], size[first:last] = now, timer.now() - start, last - first
        first = last
    return ServedLoad(arrivals, taken, answered, size, batch)
