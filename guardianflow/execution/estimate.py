"""How long plans will take, by the runs like them that finished here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.scenario.experiment_design import RunPlan
from guardianflow.state.database import Database
from guardianflow.text.plain import Row
from guardianflow.text.units import duration

__all__ = ["Estimate", "estimate"]

_ALIKE = ("data_yaml", "epochs", "imgsz", "model_arch", "model_path", "device")
_LOOKED_AT = 1000


@dataclass(frozen=True)
class Estimate(Row):
    """What is known of the time that plans will take.

    Attributes:
        seconds: For all of them; ``None`` where nothing like them finished here.
        plans: How many there are.
        unlike: Plans of which no run is known that is like them; they count as the mean of the others.
        based_on: How many runs it is made from.
    """

    seconds: float | None
    plans: int
    unlike: int
    based_on: int

    def sentence(self) -> str:
        """The estimate in words."""
        if self.seconds is None:
            return "nothing like it finished here before, so how long it takes isn't known"
        runs = f"{self.based_on} run{'s' if self.based_on > 1 else ''}"
        guess = f"; {self.unlike} of {self.plans} are like none of them and count as the others' mean"
        return f"about {duration(self.seconds)}, as {runs} like it took{guess if self.unlike else ''}"


def estimate(plans: Sequence[RunPlan], settings: Settings, *, count: int = 0, at_once: int = 1) -> Estimate:
    """What plans will take: the median time of finished runs of the same kind, data, model, size and epochs.

    Args:
        plans: Those that are known.
        settings: Where the runs are.
        count: How many there will be; default: as many as are known.
        at_once: How many run at the same time.
    """
    records, took = RunRecords(Database.open(settings.database_url)), dict[tuple[Any, ...], list[float]]()
    for kind in {plan.kind for plan in plans}:
        for record in records.list(kind=kind, status=RunStatus.FINISHED, limit=_LOOKED_AT):
            if record.ended is not None and not record.parameters.get("resume"):
                took.setdefault(_likeness(kind, record.parameters), []).append(_seconds(record))
    keys = [_likeness(plan.kind, plan.parameters) for plan in plans]
    known = [median(took[key]) for key in keys if key in took]
    count = max(count, len(plans))
    unlike = len(keys) - len(known)
    if not known:
        return Estimate(None, count, unlike, 0)
    based_on = sum(len(took[key]) for key in {*keys} & {*took})
    return Estimate(round(mean(known) * count / at_once, 1), count, unlike, based_on)


def _likeness(kind: str, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    return (kind, *(parameters.get(name) for name in _ALIKE))


def _seconds(record: RunRecord) -> float:
    assert record.ended is not None  # noqa: S101 - only finished ones are handed over
    return (record.ended - record.started).total_seconds()
