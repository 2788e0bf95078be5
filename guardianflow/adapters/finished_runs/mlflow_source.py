"""A run as a store of MLflow has it, whatever kind of store that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.runs.run_records import RunStatus

__all__ = ["MAX_VALUE", "STATUSES", "SourceRun", "whole"]

MAX_VALUE = 16_384
"""Signs of a parameter or a tag that are read."""

STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: RunStatus.FINISHED, 4: RunStatus.FAILED, 5: RunStatus.KILLED}
"""How a file store writes a status."""


@dataclass
class SourceRun:
    """A run as its store has it.

    Attributes:
        run_id: The store's id of it.
        place: Its folder, or the database.
        experiment: Name of its experiment.
        name: Its name; empty where it has none.
        status: MLflow's word.
        start_ms: When it began, ms since 1970.
        end_ms: When it ended.
        artifacts: Where its artifacts lie, as a URI or a path.
        params: By name.
        metrics: Name → points (step, value, ms).
        tags: By name.
        remarks: What could not be read.
    """

    run_id: str
    place: Path
    experiment: str
    name: str = ""
    status: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    artifacts: str = ""
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float, int | None]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def whole(value: Any) -> int | None:
    """A time or a number as a store has it; ``None`` for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
