"""What shall be run, as data: a plan says which kind of run, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RunPlan"]


@dataclass(frozen=True)
class RunPlan:
    """One run that is to be executed.

    Attributes:
        kind: Name of the kind, see :mod:`guardianflow.scenario.factory`.
        parameters: What its runner is asked, as plain JSON types.
        again_of: The run that this plan repeats.
        resume: The interrupted run that this plan goes on with.
    """

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    again_of: str | None = None
    resume: str | None = None

    @property
    def experiment_name(self) -> str:
        """The experiment that the run belongs to."""
        return str(self.parameters["experiment_name"])
