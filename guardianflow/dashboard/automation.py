"""AutoOptimizer: from an alert to a recommendation, and from a recommendation to a change that the gate has judged.

Evaluating changes nothing but the rows of alerts and recommendations. Applying runs the recommended scenario, once,
whoever asks and however often; a process that was killed is followed by one that goes on from what is recorded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.actions._base import ACTIONS, Proposal, Situation, Unfit
from guardianflow.dashboard.alert_rules import span_text
from guardianflow.dashboard.alerts import Alert, AlertEngine, AlertRule, AlertRules
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.recommendations import DECIDABLE, Recommendation, Recommendations, State
from guardianflow.exceptions import ConflictError, GuardianFlowError, InputError, RefusedError
from guardianflow.text.plain import Row
from guardianflow.views.result_page import Rows

if TYPE_CHECKING:
    from guardianflow.dashboard.application import Step
    from guardianflow.runs.run_records import RunRecord

__all__ = ["AutoOptimizer", "Evaluation", "Recommendation", "State"]

LONGEST_S = 7 * 86_400.0
"""How long somebody waits for another process that applies the same recommendation."""
_DAY = timedelta(days=1)
_SPAWNING = timedelta(minutes=2)
"""Within this time of a claim, the process that was started for it may not hold the lock yet."""


@dataclass(frozen=True)
class Evaluation(Row):
    """What one evaluation found.

    Attributes:
        alerts: Those that are open, and those that it resolved.
        recommendations: Those that are not finished: open, applying, waiting, failed.
        remarks: What the rules could not tell, and why a firing alert has no recommendation, a sentence each.
    """

    alerts: tuple[Alert, ...]
    recommendations: tuple[Recommendation, ...]
    remarks: tuple[str, ...] = ()


class AutoOptimizer:
    """Advises and, when told so, acts.

    Reading and evaluating import neither torch nor MLflow.

    Args:
        store: The measurements. Default: those of the settings.
        rules: When to fire, what to advise, how often to act. Default: :meth:`AlertRules.load`.
        settings: Where runs, models and state are. Default: the environment's.
        registry: The registry that is read. Default: the settings'.
        clock: What time it is, time-zone aware.
    """

    def __init__(
        self,
        store: MetricsStore | None = None,
        rules: AlertRules | None = None,
        *,
        settings: Settings | None = None,
        registry: ModelRegistry | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.store = store or MetricsStore(self.settings.database_url)
        self.rules = rules or AlertRules.load(settings=self.settings)
        self._clock = clock or (lambda: datetime.now(UTC))
        self.alerts = AlertEngine(self.store, self.rules, clock=self._clock)
        self._registry = registry or ModelRegistry(self.settings)
        self._database = self.store.database
        self._rows = Recommendations(self._database)

    def __repr__(self) -> str:
        return f"AutoOptimizer of {self.store!r} by {self.rules.path or 'the rules that ship'}"

    def _repr_html_(self) -> str:
        return self.list()._repr_html_()

    # --- advice -----------------------------------------------------------------------------------

    def evaluate(self, now: datetime | None = None) -> Evaluation:
        """Look at the rules, and recommend what fits to each alert that fires: one recommendation an alert.

        Args:
            now: The moment to look at. Default: the clock's.
        """
        moment = now or self._clock()
        alerts = self.alerts.evaluate(moment)
        self._withdraw()
        firing = [alert for alert in alerts if alert.state == "firing"]
        known = self._rows.alerts_with_one([alert.id for alert in firing])
        said = [self._advise(alert, moment) for alert in firing if alert.id not in known]
        left = self._rows.list(states=(*DECIDABLE, State.APPLYING))
        return Evaluation(tuple(alerts), tuple(left), (*self.alerts.remarks, *filter(None, said)))

    def _withdraw(self) -> None:
        for number, ended_by in self._rows.of_ended_alerts():
            why = f"its alert is over ({ended_by.replace('_', ' ')})"
            self._rows.move(number, of=(State.OPEN,), state=State.WITHDRAWN, reason=why, ended=self._clock())

    def _advise(self, alert: Alert, now: datetime) -> str:
        """Recommend what fits; why nothing does, as a sentence."""
        rule = self.rules.get(alert.rule)
        named = f"alert {alert.id} ({alert.rule}, {_place(alert)})"
        if rule is not None and rule.is_silence:
            seen = f"last seen {alert.facts.get('last_seen')}"
            return f"{named}: it stopped reporting ({seen}); what is silent can't be judged, so nothing is advised"
        if rule is None or not rule.advise:
            return f"{named}: its rule advises nothing"
        try:
            situation = self._situation(alert, rule, now)
        except (GuardianFlowError, _UnknownError) as error:
            return f"{named}: nothing is advised: {error}"
        unfit: dict[str, str] = {}
        for name in rule.advise:
            found = _ask(name, situation)
            if isinstance(found, Proposal):
                self._rows.add(**_row(name, found, situation, unfit))
                return ""
            unfit[name] = found.why
        reasons = "; ".join(f"{name}: {why}" for name, why in unfit.items())
        return f"{named}: nothing is advised: {reasons}"

    def _situation(self, alert: Alert, rule: AlertRule, now: datetime) -> Situation:
        if not alert.model:
            raise _UnknownError("its figures name no model")
        state = next((item for item in self._registry.list_models() if item.name == alert.model), None)
        if state is None or state.champion is None:
            raise _UnknownError(f"no version of {alert.model!r} is in charge here")
        return Situation(
            alert=alert,
            rule=rule,
            state=state,
            champion=self._registry.get(state.name, state.champion),
            versions=self._registry.list_versions(state.name),
            history=self._registry.history(state.name),
            store=self.store,
            settings=self.settings,
            now=now,
        )

    # --- what there is ----------------------------------------------------------------------------

    def list(self, state: str | None = None, *, limit: int = 200) -> Rows[Recommendation]:
        """Recommendations, the newest first."""
        return self._rows.list(states=(state,) if state else (), limit=limit)

    def get(self, number: int) -> Recommendation:
        """One recommendation.

        Raises:
            NotFoundError: There is none of that number.
        """
        return self._rows.get(number)

    def is_busy(self, number: int) -> bool:
        """Whether a process is carrying it out right now."""
        try:
            with self._database.lock(_lock_name(number), timeout_s=0.05):
                return False
        except ConflictError:
            return True

    # --- decisions --------------------------------------------------------------------------------

    def require_applicable(self, number: int, *, may_promote: bool = True) -> Recommendation:
        """The recommendation, if it may be applied now, or has been already; nothing is changed.

        Raises:
            NotFoundError: There is none of that number.
            RefusedError: It was dismissed or withdrawn, it waits for somebody who may promote, or cooldown or budget
                stand against it, with when it will be allowed.
        """
        self._withdraw()
        found = self.get(number)
        if found.state in (State.DISMISSED, State.WITHDRAWN):
            raise RefusedError(
                f"recommendation {number} was {found.state}: {found.reason}; `guardianflow optimize` shows what is open"
            )
        if found.state == State.WAITING and not may_promote:
            raise RefusedError(
                f"recommendation {number} waits for somebody who may promote: {found.outcome.get('said')}"
            )
        if found.state in (State.OPEN, State.FAILED):
            self._require_calm(found)
        return found

    def _require_calm(self, found: Recommendation) -> None:
        limits, now = self.rules.limits, self._clock()
        cooldown = timedelta(seconds=limits.cooldown_s)
        applied = [item for item in self._rows.decided_since(now - max(cooldown, _DAY)) if item.id != found.id]
        for item in applied:
            until = _decided(item) + cooldown
            if (item.action, item.model) == (found.action, found.model) and until > now:
                raise RefusedError(
                    f"{found.action} was applied to {found.model} on {_shown(_decided(item))} (recommendation "
                    f"{item.id}) and rests for {span_text(limits.cooldown_s)} after that: allowed from "
                    f"{_shown(until)} on, or change optimizer.cooldown in alerts.yaml"
                )
        today = [item for item in applied if _decided(item) > now - _DAY]
        if len(today) >= limits.daily_budget:
            free = _decided(today[limits.daily_budget - 1]) + _DAY if limits.daily_budget else None
            when = f"the next is allowed from {_shown(free)} on" if free else "none is allowed"
            raise RefusedError(
                f"{len(today)} recommendations were applied within 24 hours, of {limits.daily_budget} allowed; {when}, "
                "or change optimizer.daily_budget in alerts.yaml"
            )

    def claim(self, number: int, *, actor: str, may_promote: bool) -> tuple[Recommendation, bool]:
        """Put it under somebody's name and rights, to be carried out by :meth:`go_on`; the first claim stands.

        Returns:
            The recommendation, and whether it is this call that claimed it.

        Raises:
            NotFoundError: There is none of that number.
            RefusedError: As :meth:`require_applicable`.
        """
        with self._database.lock("optimizer limits"):  # two claims at once would both find the budget unspent
            found = self.require_applicable(number, may_promote=may_promote)
            if found.state not in DECIDABLE:
                return found, False
            claim = {"actor": actor[:200], "may_promote": may_promote, "decided": self._clock(), "ended": None}
            mine = self._rows.move(number, of=(found.state,), state=State.APPLYING, **claim)
            return self.get(number), mine

    def start(self, number: int, *, actor: str, may_promote: bool) -> Recommendation:
        """Claim a recommendation, and have it applied by a process of its own; returns at once.

        One that is being applied, or was applied, is left as it is; one whose process died goes on.

        Args:
            number: Which.
            actor: Who wants it; the ledger's actor.
            may_promote: Whether that person may put a version in charge. If not, it ends in ``waiting``.

        Raises:
            NotFoundError: There is none of that number.
            RefusedError: As :meth:`require_applicable`.
        """
        found, mine = self.claim(number, actor=actor, may_promote=may_promote)
        left_behind = found.state == State.APPLYING and self._clock() - _decided(found) > _SPAWNING
        if mine or (left_behind and not self.is_busy(number)):
            self._spawn(number)
        return found

    def apply(
        self,
        recommendation: Recommendation | int,
        *,
        actor: str | None = None,
        may_promote: bool = True,
        on_step: Step | None = None,
        on_run: Callable[[RunRecord], None] | None = None,
    ) -> Recommendation:
        """Carry a recommendation out here, and wait for the end; done once, whoever calls and however often.

        One that was claimed already goes on under the name and the rights of who claimed it.

        Args:
            recommendation: Which, or its number.
            actor: Who wants it. Default: ``settings.actor``.
            may_promote: Whether that person may put a version in charge. If not, it ends in ``waiting``.
            on_step: Told what is done now.
            on_run: Told the record of the recommended run as soon as it exists.

        Raises:
            NotFoundError: There is none of that number.
            RefusedError: As :meth:`require_applicable`.
        """
        number = recommendation if isinstance(recommendation, int) else recommendation.id
        self.claim(number, actor=actor or self.settings.actor, may_promote=may_promote)
        return self.go_on(number, on_step=on_step, on_run=on_run)

    def go_on(
        self, number: int, *, on_step: Step | None = None, on_run: Callable[[RunRecord], None] | None = None
    ) -> Recommendation:
        """Carry out what was claimed, from where it stands; anything else is handed back as it is.

        Raises:
            NotFoundError: There is none of that number.
        """
        from guardianflow.dashboard.application import Application

        with self._database.lock(_lock_name(number), timeout_s=LONGEST_S):
            found = self.get(number)
            if found.state != State.APPLYING:  # nobody claimed it, or another process has done it meanwhile
                return found
            return Application(
                found,
                database=self._database,
                settings=self.settings,
                clock=self._clock,
                on_step=on_step,
                on_run=on_run,
            ).carry_out()

    def dismiss(self, number: int, *, actor: str, reason: str) -> Recommendation:
        """Say no to a recommendation.

        Raises:
            InputError: No reason was given.
            NotFoundError: There is none of that number.
            RefusedError: It is being applied, or it is decided already.
        """
        why = " ".join(reason.split())[:2000]
        if not why:
            raise InputError("a dismissal must say why: --reason TEXT")
        now = self._clock()
        values = {"actor": actor[:200], "reason": why, "decided": now, "ended": now}
        if not self._rows.move(number, of=DECIDABLE, state=State.DISMISSED, **values):
            state = self.get(number).state
            raise RefusedError(f"recommendation {number} can't be dismissed: it is {state} already")
        return self.get(number)

    def _spawn(self, number: int) -> None:
        """A process that applies it and outlives this one."""
        from guardianflow.execution.executors import kernel_environment

        log = self.settings.work_dir / "logs" / f"recommendation-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-P", "-c", _GO_ON, str(number)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, **kernel_environment(self.settings)},
            )  # fmt: skip
        threading.Thread(target=process.wait, daemon=True).start()  # or it stays a zombie for as long as we live


# Not `optimize --apply`: that is somebody at a terminal, whose rights are not those of who claimed it.
_GO_ON = (
    "import sys; from guardianflow.core.config import Settings; from guardianflow.dashboard.optimization import "
    "apply_in_notebook; apply_in_notebook(int(sys.argv[1]), settings=Settings(), only_claimed=True)"
)


class _UnknownError(Exception):
    """Why there is nothing to look at."""


def _lock_name(number: int) -> str:
    return f"recommendation {number}"


def _ask(name: str, situation: Situation) -> Proposal | Unfit:
    try:
        return ACTIONS.get(name).propose(situation)
    except (GuardianFlowError, OSError) as error:
        return Unfit(str(error))


def _row(action: str, found: Proposal, situation: Situation, unfit: dict[str, str]) -> dict[str, Any]:
    alert, rule = situation.alert, situation.rule
    facts = {
        "rule": rule.name,
        "when": rule.when,
        "metric": rule.metric,
        "value": alert.value,
        "since": alert.since.isoformat(),
        "champion": situation.champion.version,
        "why": found.why,
        "caveats": list(found.caveats),
        "passed_over": unfit,
        **found.facts,
    }
    return {
        "alert_id": alert.id, "action": action, "model": situation.model, "site": alert.site, "camera": alert.camera,
        "facts": facts, "cost": found.cost(), "scenario": found.content(), "created": situation.now,
    }  # fmt: skip


def _place(alert: Alert) -> str:
    named = (("model", alert.model), ("site", alert.site), ("camera", alert.camera))
    return ", ".join(f"{what} {name}" for what, name in named if name) or "figures without a name"


def _decided(item: Recommendation) -> datetime:
    return item.decided or item.created


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
