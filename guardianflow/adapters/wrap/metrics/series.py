"""The curves of a run: steps, a cap on names, thinning; what goes to MLflow.

A name belongs to one source, so that nothing is logged twice: a file goes before ``stdout``, ``stdout`` before
``stderr``, the first of several files before the others. Where a better source turns up later, it takes over; what was
handed out until then stays.

Half of a name's points are handed out as they come. The other half is spread over ever longer stretches, of which
every second, fourth … value is kept: points that were logged can't be taken back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from guardianflow.adapters.wrap.metrics.measurement import Measurement, Point

__all__ = ["Curve", "MetricSeries"]

_PER_TAKE = 5_000
_MOST_WAITING = 100_000
_STRETCHES = 16
_EXAMPLES = 5
_MOST_NOTED = 10_000
_MOST_ASKED = 1_000
_RANKS = {"stderr": 0, "stdout": 1}  # of several sources the one of the highest rank counts
_FILE_RANK = 2


@dataclass(slots=True)
class Curve:
    """What is known of one metric, whatever was thinned out."""

    source: str
    room: int  # points until the stride is doubled
    count: int = 0  # values seen
    first: float = math.nan
    last: float = math.nan
    last_step: int = 0
    stride: int = 1  # of so many values one is kept
    waiting: dict[int, float] = field(default_factory=dict)  # step → value, to be handed out
    handed: int = 0  # points
    last_handed: tuple[int, float] | None = None
    after: float = -math.inf  # steps up to this one were handed out for another source

    @property
    def left_out(self) -> int:
        """Values that were seen and are not handed out."""
        return max(0, self.count - self.handed - len(self.waiting))


class MetricSeries:
    """Takes measurements of several sources, gives the points to log.

    A measurement without a step gets the count of its name's values, from 1. Steps may repeat or go back; of
    several values of one name and step between two calls of :meth:`take` the last is handed out.

    Args:
        max_names: Distinct names; first come. Names that a pattern of the user's found have more room (1,000).
        max_points: Points handed out a name and source (the last value may come on top of them).
    """

    def __init__(self, *, max_names: int = 200, max_points: int = 5_000) -> None:
        self.curves: dict[str, Curve] = {}  # by name
        self._max_names = max_names
        self._max_points = max_points
        self._start = max(1, max_points - max_points // 2)
        self._stretch = max(1, (max_points - self._start) // _STRETCHES)
        self._dropped: dict[str, None] = {}
        self._waiting = 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of: names dropped, curves thinned."""
        remarks = []
        if self._dropped:
            remarks.append(
                f"{len(self._dropped)} more metric names were left out, among them {_some(self._dropped)}: at most "
                f"{self._max_names} are kept. Name the ones you want with a pattern."
            )
        if thinned := [name for name, curve in self.curves.items() if curve.left_out]:
            remarks.append(f"curves of {len(thinned)} metrics were thinned: {_some(thinned)}")
        return tuple(remarks)

    def forget(self, name: str) -> None:
        """What a name gave so far doesn't count: its file began another training. What was handed out stays so."""
        curve = self.curves.get(name)
        if curve is not None and curve.source not in _RANKS:
            self._waiting -= len(curve.waiting)
            del self.curves[name]

    def add(self, measurements: Iterable[Measurement], *, source: str) -> None:
        """Take measurements of one source: ``"stdout"``, ``"stderr"``, or any other text for a file."""
        for name, value, step, asked in measurements:
            curve = self.curves.get(name)
            if curve is None or curve.source != source:
                curve = self._curve(name, curve, source, asked=asked)
                if curve is None:
                    continue
            if not curve.count:
                curve.first = value
            kept = curve.count % curve.stride == 0
            curve.count += 1
            curve.last = value
            curve.last_step = curve.count if step is None else step
            if curve.last_step <= curve.after:
                curve.handed += 1
            elif kept:
                self._keep(curve, curve.last_step, value)

    def take(self, most: int = _PER_TAKE) -> list[Point]:
        """New points since the last time, at most 5,000 a call; what is left comes with the next."""
        points: list[Point] = []
        for name, curve in self.curves.items():
            steps = list(curve.waiting)[: most - len(points)]
            for step in steps:
                curve.last_handed = (step, curve.waiting.pop(step))
                points.append(Point(name, curve.last_handed[1], step))
            curve.handed += len(steps)
        self._waiting -= len(points)
        return points

    def close(self) -> list[Point]:
        """All that is still to be logged; the last value of each name is always among what was handed out."""
        for curve in self.curves.values():
            last = (curve.last_step, curve.last)
            if curve.waiting or repr(curve.last_handed) != repr(last):
                # Handed out last, so that it is MLflow's latest value, too.
                self._waiting += curve.waiting.pop(curve.last_step, None) is None
                curve.waiting[curve.last_step] = curve.last
        return self.take(self._waiting)

    def _curve(self, name: str, curve: Curve | None, source: str, *, asked: bool) -> Curve | None:
        """The curve that a source may write to; ``None`` where it may not."""
        new = Curve(source, self._start)
        if curve is None:
            if len(self.curves) >= self._max_names + _MOST_ASKED * asked:
                if len(self._dropped) < _MOST_NOTED:
                    self._dropped[name] = None
                return None
        elif _RANKS.get(source, _FILE_RANK) <= _RANKS.get(curve.source, _FILE_RANK):
            return None
        else:  # what waits of the other source is dropped, what was handed out can't be
            self._waiting -= len(curve.waiting)
            new.last_handed = curve.last_handed
            new.after = curve.last_handed[0] if curve.last_handed else -math.inf
        self.curves[name] = new
        return new

    def _keep(self, curve: Curve, step: int, value: float) -> None:
        if curve.waiting.pop(step, None) is None:  # else the later value stands at the later place
            if curve.handed + len(curve.waiting) >= self._max_points or self._waiting >= _MOST_WAITING:
                return
            self._waiting += 1
            curve.room -= 1
            if curve.room <= 0:
                curve.room = self._stretch
                curve.stride *= 2
        curve.waiting[step] = value


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_EXAMPLES]) + (" …" if len(listed) > _EXAMPLES else "")
