"""What is read out of a training's output: single figures, and the figures of many lines that are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["MeasuredLines", "Measurement", "ToldFigures"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure that a training gave.

    Attributes:
        name: As MLflow accepts it, see :func:`guardianflow.core.metrics.legal_metric_name`.
        value: The figure; nan and infinite ones stay what they are.
        step: Step or epoch; ``None`` where nothing told one.
        asked: A pattern of the user's found it: its name always has room.
    """

    name: str
    value: float
    step: int | None = None
    asked: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class MeasuredLines:
    """The figures of lines that follow each other and have the same names; at least one line and one name.

    Attributes:
        names: Different names, in the order of the line.
        columns: For each name its figures, one a line.
        steps: The step of each line.
    """

    names: tuple[str, ...]
    columns: tuple[Sequence[float], ...]
    steps: Sequence[int | None]

    def each(self) -> Iterator[Measurement]:
        """Figure by figure, line by line."""
        for step, *values in zip(self.steps, *self.columns, strict=True):
            for name, value in zip(self.names, values, strict=True):
                yield Measurement(name, value, step)


class ToldFigures(NamedTuple):
    """What a line tells, by name: its figures, and the text of its epoch and its step, empty where it names none."""

    figures: list[tuple[str, float]]
    epoch: str = ""
    step: str = ""
