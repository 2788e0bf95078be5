"""The curves of a run: steps, a cap on names, thinning; what goes to MLflow.

A name belongs to one source, so that nothing is logged twice: a file goes before ``stdout``, ``stdout`` before
``stderr``, the first of several files before the others. Where a better source turns up later, it takes over; the
steps that were handed out until then stay as they are.

Half of a name's points are handed out as they come. The other half is spread over ever longer stretches, of which
every second, fourth … value is kept: points that were logged can't be taken back. Where values come faster than
they are taken, they are thinned evenly among themselves at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from guardianflow.adapters.wrap.metrics.measurement import Measurement, Point

__all__ = ["MetricSeries", "SeriesSummary"]

_PER_TAKE = 5_000
_MOST_WAITING = 100_000
_STRETCHES = 16
_EXAMPLES = 5
_MOST_DROPPED = 10_000
_MOST_ASKED = 1_000
_RANKS = {"stderr": 0, "stdout": 1}
_FILE_RANK = 2


@dataclass(frozen=True)
class SeriesSummary:
    """What is known of one metric, whatever was thinned out.

    Attributes:
        count: Values seen.
        first: The first value.
        last: The last value.
        last_step: Step of the last value.
    """

    count: int
    first: float
    last: float
    last_step: int


@dataclass(slots=True)
class _Curve:
    """One name's state. ``waiting``: step → value, to be handed out; ``room``: points till the next stride."""

    source: str
    rank: int
    room: int
    count: int = 0
    kept: int = 0
    stride: int = 1
    first: float = math.nan
    last: float = math.nan
    last_step: int = 0
    waiting: dict[int, float] = field(default_factory=dict)
    handed: set[int] = field(default_factory=set)  # steps of the sources that a file may still take over from
    foreign: bool = False  # `handed` holds another source's steps
    last_handed: tuple[int, float] | None = None
    left_out: int = 0


class MetricSeries:
    """Takes measurements of several sources, gives the points to log.

    A measurement without a step gets the count of its name's values, from 1. Steps may repeat or go back; of
    several values of one name and step between two calls of :meth:`take` the last is handed out.

    Args:
        max_names: Distinct names; first come. Names that a pattern of the user's found
            have room of their own (1,000).
        max_points: Points handed out a name (the last value may come on top of them).
    """

    def __init__(self, *, max_names: int = 200, max_points: int = 5_000) -> None:
        self._max_names = max_names
        self._max_points = max_points
        self._curves: dict[str, _Curve] = {}
        self._dropped: dict[str, None] = {}
        self._ignored: dict[tuple[str, str], None] = {}
        self._asked = 0
        self._start = max(1, max_points - max_points // 2)
        self._stretch = max(1, (max_points - self._start) // _STRETCHES)
        self._most_waiting = max(2, max_points // 4)
        self._waiting = 0

    @property
    def last(self) -> dict[str, float]:
        """Name → its last value."""
        return {name: curve.last for name, curve in self._curves.items()}

    @property
    def thinned(self) -> dict[str, int]:
        """Name → values that were seen and not handed out, for names that were thinned."""
        return {name: curve.left_out for name, curve in self._curves.items() if curve.left_out}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of: names dropped, curves thinned, sources left aside."""
        remarks = []
        if self._dropped:
            remarks.append(
                f"{len(self._dropped)} more metric names were left out, among them {_some(self._dropped)}: at most "
                f"{self._max_names} are kept. Name the ones you want with a pattern."
            )
        if thinned := self.thinned:
            remarks.append(f"curves of {len(thinned)} metrics were thinned: {_some(thinned)}")
        if self._ignored:
            names = _some({f"{name} in {source}": None for name, source in self._ignored})
            remarks.append(f"metrics that stand in several places were logged from one of them; left aside: {names}")
        return tuple(remarks)

    def forget(self, name: str) -> None:
        """What a name gave so far doesn't count: its file began another training. What was handed out stays so."""
        if (curve := self._curves.get(name)) is not None and curve.rank == _FILE_RANK:
            self._waiting -= len(curve.waiting)
            del self._curves[name]

    def add(self, measurements: Iterable[Measurement], *, source: str) -> None:
        """Take measurements of one source: ``"stdout"``, ``"stderr"``, or any other text for a file."""
        curves = self._curves
        for measurement in measurements:
            name = measurement.name
            curve = curves.get(name)
            if curve is None or curve.source != source:
                curve = self._curve(name, curve, source, asked=measurement.asked)
                if curve is None:
                    continue
            value = measurement.value
            count = curve.count
            curve.count = count + 1
            step = measurement.step
            if step is None:
                step = curve.count
            if not count:
                curve.first = value
            curve.last, curve.last_step = value, step
            if count % curve.stride:
                curve.left_out += 1
            elif not (curve.foreign and step in curve.handed):
                self._keep(curve, step, value)

    def take(self) -> list[Point]:
        """New points since the last time, at most 5,000 a call; what is left comes with the next."""
        points: list[Point] = []
        for name, curve in self._curves.items():
            if not curve.waiting:
                continue
            points += self._hand_out(name, curve, _PER_TAKE - len(points))
            if len(points) >= _PER_TAKE:
                break
        return points

    def close(self) -> list[Point]:
        """All that is still to be logged; the last value of each name is always among what was handed out."""
        points: list[Point] = []
        for name, curve in self._curves.items():
            if curve.last_handed is None or not _same(curve, curve.last_handed) or curve.waiting:
                # Handed out last, so that it is MLflow's latest value, too.
                if curve.waiting.pop(curve.last_step, None) is None:
                    self._waiting += 1
                    curve.left_out = max(0, curve.left_out - 1)
                curve.waiting[curve.last_step] = curve.last
            points += self._hand_out(name, curve, len(curve.waiting))
        return points

    def summary(self) -> dict[str, SeriesSummary]:
        """Name → what is known of it."""
        return {
            name: SeriesSummary(curve.count, curve.first, curve.last, curve.last_step)
            for name, curve in self._curves.items()
        }

    def _curve(self, name: str, curve: _Curve | None, source: str, *, asked: bool) -> _Curve | None:
        """The curve that a source may write to; ``None`` where it may not."""
        rank = _RANKS.get(source, _FILE_RANK)
        if curve is None:
            if self._asked >= _MOST_ASKED if asked else len(self._curves) - self._asked >= self._max_names:
                if len(self._dropped) < _MOST_DROPPED:
                    self._dropped[name] = None
                return None
            self._asked += asked
            curve = self._curves[name] = _Curve(source, rank, room=self._start)
            return curve
        if rank <= curve.rank:
            if len(self._ignored) < _MOST_DROPPED:
                self._ignored[name, source] = None
            return None
        # A better source: what waits from the other one is dropped, what was handed out can't be.
        self._waiting -= len(curve.waiting)
        curve.waiting.clear()
        curve.source, curve.rank, curve.foreign = source, rank, True
        curve.count, curve.left_out = 0, 0
        return curve

    def _keep(self, curve: _Curve, step: int, value: float) -> None:
        waiting = curve.waiting
        if step in waiting:
            del waiting[step]  # the later value, at the later place
            curve.left_out += 1
        elif curve.kept >= self._max_points:
            curve.left_out += 1
            return
        else:
            self._waiting += 1
            curve.kept += 1
            curve.room -= 1
            if curve.room <= 0:
                curve.room = self._stretch
                curve.stride *= 2
        waiting[step] = value
        if len(waiting) > self._most_waiting:
            self._thin(curve)
        elif self._waiting > _MOST_WAITING:
            for each in self._curves.values():
                self._thin(each)

    def _thin(self, curve: _Curve) -> None:
        """Keep every second of the points that wait; from now on every second of the values."""
        before = len(curve.waiting)
        if before < 2:
            return
        curve.waiting = dict(list(curve.waiting.items())[::2])
        gone = before - len(curve.waiting)
        self._waiting -= gone
        curve.left_out += gone
        curve.room += gone
        curve.kept -= gone
        curve.stride *= 2

    def _hand_out(self, name: str, curve: _Curve, most: int) -> list[Point]:
        steps = list(curve.waiting.items())[:most]
        for step, _ in steps:
            del curve.waiting[step]
        self._waiting -= len(steps)
        if steps:
            curve.last_handed = steps[-1]
        if curve.rank < _FILE_RANK:
            curve.handed.update(step for step, _ in steps)
        return [Point(name, value, step) for step, value in steps]


def _same(curve: _Curve, handed: tuple[int, float]) -> bool:
    step, value = handed
    return step == curve.last_step and (value == curve.last or (math.isnan(value) and math.isnan(curve.last)))


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_EXAMPLES]) + (" …" if len(listed) > _EXAMPLES else "")
