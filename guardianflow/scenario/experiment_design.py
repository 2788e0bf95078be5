"""What shall be run, as data: a plan is a scenario, and whether it repeats a run or goes on with one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from guardianflow.scenario.blocks import BaseScenario

__all__ = ["RunPlan"]


@dataclass(frozen=True)
class RunPlan:
    """One run that is to be executed.

    Attributes:
        scenario: What is asked, every value checked.
        again_of: The run that this plan repeats.
        resume: The interrupted run that this plan goes on with.
    """

    scenario: BaseScenario
    again_of: str | None = None
    resume: str | None = None

    @property
    def kind(self) -> str:
        """Name of the kind, see :mod:`guardianflow.scenario.factory`."""
        return self.scenario.kind

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """What its runner is asked, in the flat form."""
        return self.scenario.flat()

    @property
    def experiment_name(self) -> str:
        """The experiment that the run belongs to."""
        return self.scenario.experiment
