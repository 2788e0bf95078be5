"""What is read out of a training's output and files: single figures."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Measurement", "ToldFigures"]


class Measurement(NamedTuple):
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
    asked: bool = False


class ToldFigures(NamedTuple):
    """What a line tells, by name: its figures, and the text of its epoch and its step, empty where it names none."""

    figures: list[tuple[str, float]]
    epoch: str = ""
    step: str = ""
