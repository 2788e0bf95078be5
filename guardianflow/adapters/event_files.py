"""TensorBoard's event files: scalars and hyperparameters, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["EventHistory", "read_event_file"]


@dataclass(frozen=True)
class EventHistory:
    """What one event file says.

    Attributes:
        metrics: Legal metric name → its points in the file's order: step, value, time in ms since 1970 (or ``None``).
        hparams: Hyperparameters, where TensorBoard's plugin of that name wrote some.
        started: Time of the first event, seconds since 1970; ``None`` where there is none.
        ended: Time of the last event.
        damaged: Where and how the file is damaged; ``""`` where it is sound.
    """

    metrics: Mapping[str, list[tuple[int, float, int | None]]]
    hparams: Mapping[str, Any]
    started: float | None
    ended: float | None
    damaged: str = ""


def read_event_file(path: str | Path) -> EventHistory:
    """The scalars and hyperparameters in a finished event file.

    Raises:
        InputError: There is no such file, or it can't be read.
        MissingDependencyError: The package ``tensorboard`` isn't installed.
    """
    raise NotImplementedError(path)
