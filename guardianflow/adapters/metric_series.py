"""The curves of a run: steps, a cap on names, thinning; what goes to MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from guardianflow.adapters.metric_lines import Measurement

__all__ = ["MetricSeries", "Point", "SeriesSummary"]


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve, to be logged."""

    name: str
    value: float
    step: int


@dataclass(frozen=True)
class SeriesSummary:
    """What is known of one metric, whatever was thinned out.

    Attributes:
        count: Values seen.
        first: The first value.
        last: The last value.
        minimum: The least value that is a number; nan where none is.
        maximum: The greatest value that is a number; nan where none is.
        last_step: Step of the last value.
        source: Where it came from: ``"stdout"``, ``"stderr"`` or a file.
    """

    count: int
    first: float
    last: float
    minimum: float
    maximum: float
    last_step: int
    source: str


class MetricSeries:
    """Takes measurements of several sources, gives the points to log.

    Args:
        max_names: Distinct names; first come.
        max_points: Points handed out a name.
    """

    last: dict[str, float]
    thinned: dict[str, int]

    def __init__(self, *, max_names: int = 200, max_points: int = 5_000) -> None:
        raise NotImplementedError

    @property
    def dropped_names(self) -> int:
        """Distinct names that found no room."""
        raise NotImplementedError

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of: names dropped, curves thinned."""
        raise NotImplementedError

    def add(self, measurements: Iterable[Measurement], *, source: str) -> None:
        """Take measurements of one source: ``"stdout"``, ``"stderr"``, or any other text for a file."""
        raise NotImplementedError

    def take(self) -> list[Point]:
        """New points since the last time, at most 5,000 a call."""
        raise NotImplementedError

    def close(self) -> list[Point]:
        """All that is still to be logged; the last value of each name is always among what was handed out."""
        raise NotImplementedError

    def summary(self) -> dict[str, SeriesSummary]:
        """Name → what is known of it."""
        raise NotImplementedError
