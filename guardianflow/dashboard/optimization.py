"""The optimizer as a run: a look at the rules, or a recommendation carried out, with a page to show for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings
from guardianflow.dashboard.automation import LONGEST_S, AutoOptimizer
from guardianflow.dashboard.recommendations import Recommendation, State
from guardianflow.exceptions import ConflictError, RunFailedError
from guardianflow.runners._base import RESULT_FILE, Runner
from guardianflow.runners._result import Result
from guardianflow.runners.promotion.runner import VerdictTable
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import TrackedRun, write_json
from guardianflow.scenario.factory import plan_run
from guardianflow.scenario.schema import OptimizationScenario
from guardianflow.state.database import Database
from guardianflow.text.names import validate_name
from guardianflow.text.printable import escape
from guardianflow.text.units import duration
from guardianflow.views.result_page import Table

if TYPE_CHECKING:
    from guardianflow.runs.run_records import RunRecord

__all__ = ["OptimizationResult", "OptimizationRunner", "apply_in_notebook", "cost_in_words"]

_STEPS = 4
_SHOWN_APART = {"why", "caveats", "passed_over"}


def cost_in_words(cost: Mapping[str, Any]) -> str:
    """``"about 6 min of train (as run 1a2b3c took)"``."""
    if cost.get("seconds") is None:
        return f"a run of kind {cost['kind']}; nothing like it ran here before, so how long it takes isn't known"
    return f"about {duration(float(cost['seconds']))} of {cost['kind']}, as run {str(cost['based_on'])[:12]} took"


@dataclass(frozen=True, repr=False)
class OptimizationResult(Result):
    """What a look at the rules found, or what came of a recommendation.

    Attributes:
        run_id: This run.
        experiment: Experiment name.
        status: ``"FINISHED"``.
        recommendation: The one that was applied, as it then stood; empty for a look at the rules.
        alert: Its alert.
        alerts: Those that are open.
        recommendations: Those that are not finished.
        remarks: Why firing alerts have none.
    """

    answers = ("recommendation", "alerts", "recommendations")

    run_id: str
    experiment: str
    status: str
    recommendation: Mapping[str, Any] = field(default_factory=dict)
    alert: Mapping[str, Any] = field(default_factory=dict)
    alerts: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    recommendations: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    remarks: Sequence[str] = ()

    @property
    def metrics(self) -> Mapping[str, float]:
        """None of its own: the figures are those of the runs that it started."""
        return {}

    @property
    def verdict(self) -> str:
        """What came of it, in a sentence."""
        if self.recommendation:
            return str(self.recommendation["outcome"].get("said") or self.recommendation["state"])
        return f"{len(self.alerts)} alerts are open, {len(self.recommendations)} recommendations are not finished"

    def show_evidence(self) -> Table:
        """Why it was advised: the alert, the figures, what speaks against it."""
        advice = self.recommendation
        if not advice:
            return _table({})
        facts = {name: value for name, value in advice["facts"].items() if name not in _SHOWN_APART}
        why = {"advised": advice["action"], "why": advice["facts"]["why"]}
        but = {f"but ({number})": text for number, text in enumerate(advice["facts"]["caveats"], 1)}
        passed = {f"rather than {name}": text for name, text in advice["facts"]["passed_over"].items()}
        return _table({**why, **but, **facts, **passed, "cost": cost_in_words(advice["cost"])})

    def show_runs(self) -> Table:
        """The runs that it started."""
        return _table(self.recommendation["outcome"].get("runs", {}) if self.recommendation else {})

    def show_verdict(self) -> VerdictTable:
        """What the gate said."""
        return VerdictTable(self.recommendation["outcome"].get("verdict", {}) if self.recommendation else {})

    def show_open(self) -> Table:
        """Open alerts, and what is advised."""
        alerts = {f"alert {row['id']}": _alert_line(row) for row in self.alerts}
        advice = {
            f"recommendation {row['id']}": f"{row['state']}: {row['action']} {row['model']}: {row['facts']['why']}"
            for row in self.recommendations
        }
        return _table({**alerts, **advice})

    def _repr_html_(self) -> str:
        return f"<h4>{escape(self.verdict)}</h4>"


def _table(rows: Mapping[str, Any]) -> Table:
    return Table(("what", "is"), list(rows.items()))


def _alert_line(row: Mapping[str, Any]) -> str:
    place = ", ".join(f"{what} {row[what]}" for what in ("model", "site", "camera") if row[what])
    return f"{row['state']}: {row['rule']} at {place}, value {row['value']}, since {row['since'][:16]}"


class OptimizationRunner(Runner[OptimizationScenario, OptimizationResult]):
    """Look at the alert rules, or carry a recommendation out, as a run with a notebook.

    Raises:
        ParameterError: A value is out of range.
    """

    asks = OptimizationScenario

    def check(self) -> None:
        """Check that the recommendation is there and may be applied; nothing is changed."""
        validate_name(self.scenario.experiment, "experiment name")
        if self.scenario.run.recommendation:
            AutoOptimizer(settings=self.settings).require_applicable(self.scenario.run.recommendation)

    def look(self) -> Table:
        """What is advised, before anything is done."""
        number = self.scenario.run.recommendation
        if not number:
            return _table({"asked": "to look at the rules; nothing is applied"})
        advice = AutoOptimizer(settings=self.settings).get(number)
        return _table(
            {
                "recommendation": number,
                "state": advice.state,
                "action": f"{advice.action} {advice.model}",
                "why": advice.facts["why"],
                "cost": cost_in_words(advice.cost),
                "scenario": dict(advice.scenario),
            }
        )

    def work(self, run: TrackedRun) -> OptimizationResult:
        """Evaluate, or apply and wait for the end.

        Raises:
            RunFailedError: The recommendation could not be carried out.
        """
        number, optimizer = self.scenario.run.recommendation, AutoOptimizer(settings=self.settings)
        run.log_params(self.scenario.flat())
        done = self._applied(run, optimizer, number) if number else None
        seen = optimizer.evaluate()
        found = OptimizationResult(
            run_id=run.run_id,
            experiment=run.experiment,
            status=RunStatus.FINISHED,
            recommendation=done.to_dict() if done else {},
            alert=optimizer.alerts.get(done.alert_id).to_dict() if done else {},
            remarks=seen.remarks,
            **{name: value for name, value in seen.to_dict().items() if name != "remarks"},
        )
        run.log_artifact(write_json(run.folder / RESULT_FILE, found.to_dict()))
        if done is not None and done.state == State.FAILED:
            raise RunFailedError(f"recommendation {number} could not be carried out: {done.outcome.get('said')}")
        return found

    def _applied(self, run: TrackedRun, optimizer: AutoOptimizer, number: int) -> Recommendation:
        steps: list[str] = []

        def step(said: str) -> None:
            steps.append(said)
            run.set_progress(min(len(steps) - 1, _STEPS), _STEPS, unit="step", note=said)

        if optimizer.get(number).state == State.OPEN:
            optimizer.claim(number, actor=self.settings.actor, may_promote=True)
        done = optimizer.go_on(number, on_step=step)
        tags = {"recommendation": number, "model": done.model, "action": done.action, "outcome": done.state}
        run.set_tags({f"guardianflow.{name}": value for name, value in tags.items()})
        return done


def apply_in_notebook(
    number: int,
    *,
    settings: Settings,
    only_claimed: bool = False,
    on_run: Callable[[RunRecord], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Recommendation:
    """Apply a recommendation in a run with a notebook; one that was applied already is handed back.

    Of several callers one does it; the others wait, and are handed what came of it.

    Args:
        number: Which.
        settings: Where everything is.
        only_claimed: Go on with what somebody claimed; claim nothing.
        on_run: Told the record of the run as soon as there is one.
        on_wait: Told where another process applies it, before waiting.

    Raises:
        NotFoundError: There is none of that number.
        RefusedError: It may not be applied now.
        NotebookFailedError: It could not be carried out.
    """
    from guardianflow.execution.executors import LocalExecutor

    optimizer = AutoOptimizer(settings=settings)
    asked = optimizer.require_applicable(number)
    with _turn(optimizer, number, on_wait):
        now = optimizer.require_applicable(number)
        # What others ended meanwhile, failed or waiting for a promoter, is their end: nobody here was asked about it.
        again = now.state in (State.FAILED, State.WAITING) and now.state == asked.state and not only_claimed
        if again:
            optimizer.claim(number, actor=settings.actor, may_promote=True)
        if again or now.state == State.APPLYING or (now.state == State.OPEN and not only_claimed):
            experiment = OptimizationScenario.usual_experiment
            plan = plan_run("optimize", experiment_name=experiment, recommendation=number)
            LocalExecutor(settings, on_run=on_run).execute(plan)
        return optimizer.get(number)


@contextlib.contextmanager
def _turn(optimizer: AutoOptimizer, number: int, on_wait: Callable[[], None] | None) -> Iterator[None]:
    """Only one process at a time makes a run of it."""
    name = f"run of recommendation {number}"
    with contextlib.ExitStack() as stack:
        database = Database.open(optimizer.settings.database_url)
        try:
            stack.enter_context(database.lock(name, timeout_s=0.2))
        except ConflictError:
            if on_wait is not None:
                on_wait()
            stack.enter_context(database.lock(name, timeout_s=LONGEST_S))
        yield
