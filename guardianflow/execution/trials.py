"""Trials as rows: where each stands, who has it, and what its run measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from guardianflow.text.plain import Row

__all__ = ["ENDED", "TrialRow", "TrialState", "row_of"]


class TrialState:
    """Where a trial stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"


_STATES = {
    OptunaState.WAITING: TrialState.WAITING,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.FINISHED,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
}
ENDED = (TrialState.FINISHED, TrialState.PRUNED, TrialState.FAILED)


@dataclass(frozen=True)
class TrialRow(Row):
    """One trial.

    Attributes:
        number: From 0.
        state: See :class:`TrialState`.
        value: The sweep's metric; of a pruned one where it stood when it was ended.
        point: Field → value.
        run_id: Its run; empty before there is one.
        sweep: The run of the sweep that claimed it.
        metrics: What its training measured.
        epochs: How many were trained.
        reports: Epoch → the sweep's metric.
        reason: Why it failed.
        again_of: The failed trial that it repeats.
        outcome: What its run left for whoever tells the study.
    """

    number: int
    state: str
    value: float | None = None
    point: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""
    sweep: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    reports: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""
    again_of: int | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to be done for it."""
        return self.state in ENDED

    def to_dict(self) -> dict[str, Any]:
        """The trial as plain JSON types."""
        row = {name: value for name, value in super().to_dict().items() if name not in {"sweep", "outcome"}}
        return {**row, "reports": {str(epoch): value for epoch, value in self.reports.items()}}


def row_of(trial: FrozenTrial) -> TrialRow:
    """A trial of Optuna's as a row."""
    kept = trial.user_attrs
    outcome = kept.get("outcome", {})
    last = trial.last_step
    return TrialRow(
        number=trial.number,
        state=_STATES[trial.state],
        value=trial.value if trial.state in (OptunaState.COMPLETE, OptunaState.PRUNED) else None,
        point=kept.get("point", {}),
        run_id=kept.get("run", ""),
        sweep=kept.get("sweep", ""),
        metrics=outcome.get("metrics", {}),
        epochs=outcome.get("epochs") or last or 0,
        reports=dict(sorted(trial.intermediate_values.items())),
        reason=kept.get("reason", ""),
        again_of=kept.get("again_of"),
        outcome=outcome,
    )
