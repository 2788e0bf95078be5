"""Measurements out of what a training prints, while it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Measurement", "MetricLines"]


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


class MetricLines:
    """Bytes in, measurements out; one object a stream.

    Args:
        patterns: The user's regexes with named groups.
        automatic: Recognise figures without a pattern as well.

    Raises:
        InputError: A pattern can't be used.
    """

    def __init__(self, patterns: Sequence[str] = (), *, automatic: bool = True) -> None:
        raise NotImplementedError

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of: patterns that were stopped and why."""
        raise NotImplementedError

    @property
    def spelled(self) -> dict[str, str]:
        """Name → how it was written, for names that had to be changed beyond recognition (Korean ones)."""
        raise NotImplementedError

    def feed(self, chunk: bytes) -> list[Measurement]:
        """The measurements of the lines that ended with this chunk."""
        raise NotImplementedError

    def close(self) -> list[Measurement]:
        """The measurements of a last line that never ended."""
        raise NotImplementedError
