"""What the optimizer page tells: alerts, advice that waits for a decision, what was done and whether it helped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.dashboard.alerts import Alert, AlertEngine, AlertRule, AlertRules
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.recommendations import DECIDABLE, Recommendation, Recommendations, State
from guardianflow.exceptions import GuardianFlowError

__all__ = ["Decisions", "Effect", "decisions"]

_PAST_ALERTS, _DONE = 30, 30
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Effect:
    """Whether a change helped: the figure of the rule that fired, before and after, taken the same way.

    Attributes:
        verdict: ``"helped"``: the rule is no longer broken; ``"better"``: it still is, by less; ``"no_help"``;
            ``"too_few"``: there are fewer figures than the rule asks for.
        metric: What is compared.
        before: What the alert found.
        before_count: Of how many figures.
        after: The same statistic of the figures since, ``None`` without any.
        after_count: Of how many figures.
        needed: How many the rule asks for.
    """

    verdict: str
    metric: str
    before: float
    before_count: int
    after: float | None
    after_count: int
    needed: int


@dataclass(frozen=True)
class Decisions:
    """All of it at a moment.

    Attributes:
        now: The moment.
        alerts: Open ones, the oldest first.
        past: Ended ones, the newest first.
        advice: Recommendations that somebody may decide on, or that are being applied, with their alerts.
        done: Those that are decided, the newest first, with what came of the change where that can be asked.
        trouble: What stands against reading; then nothing is known.
    """

    now: datetime
    alerts: tuple[Alert, ...] = ()
    past: tuple[Alert, ...] = ()
    advice: tuple[tuple[Recommendation, Alert], ...] = ()
    done: tuple[tuple[Recommendation, Effect | None], ...] = ()
    trouble: str = ""


def decisions(
    settings: Settings | None = None, now: datetime | None = None, *, rules: AlertRules | None = None
) -> Decisions:
    """How alerts and advice stand; what can't be read is said, not raised.

    Args:
        settings: Where figures and alerts are. Default: the environment's.
        now: The moment that is looked at. Default: now.
        rules: The alert rules. Default: those of the settings.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    try:
        settings = settings or Settings()
        store = MetricsStore(settings.database_url)
        return _read(store, rules or AlertRules.load(settings=settings), moment)
    except GuardianFlowError as error:
        return Decisions(moment, trouble=mask_secrets(str(error)))


def _read(store: MetricsStore, rules: AlertRules, now: datetime) -> Decisions:
    engine = AlertEngine(store, rules, clock=lambda: now)
    engine.evaluate(now)
    rows = Recommendations(store.database).list()
    waiting = [item for item in rows if item.state in (*DECIDABLE, State.APPLYING)]
    done = [item for item in rows if item.state in (State.APPLIED, State.REFUSED, State.DISMISSED, State.WITHDRAWN)]
    return Decisions(
        now,
        alerts=tuple(engine.open()),
        past=tuple(engine.list(state="resolved", limit=_PAST_ALERTS)),
        advice=tuple((item, engine.get(item.alert_id)) for item in waiting),
        done=tuple((item, _effect(item, engine.get(item.alert_id), store, rules, now)) for item in done[:_DONE]),
    )


def _effect(item: Recommendation, alert: Alert, store: MetricsStore, rules: AlertRules, now: datetime) -> Effect | None:
    """What changed for the rule's figure since another version is in charge; ``None`` where nothing was changed."""
    rule = rules.get(alert.rule)
    version, since = item.outcome.get("champion"), item.ended
    if rule is None or not item.outcome.get("promoted") or since is None or alert.value is None:
        return None
    after, count = _after(store, rule, alert, str(version), since, now)
    return Effect(
        verdict=_verdict(rule, alert.value, after if count >= rule.at_least else None),
        metric=rule.metric,
        before=alert.value,
        before_count=int(alert.facts.get("figures") or 1),
        after=after,
        after_count=count,
        needed=rule.at_least,
    )


def _after(
    store: MetricsStore, rule: AlertRule, alert: Alert, version: str, since: datetime, now: datetime
) -> tuple[float | None, int]:
    if since > now:
        return None, 0
    where: dict[str, Any] = {"source": rule.source, "start": since, "end": now + _TICK}
    frame = store.summary(metric=rule.metric, by=("model", "version", "site", "camera"), **where)
    for row in frame.to_dict("records"):
        place = (row["model"], row["site"], row["camera"])
        if place == (alert.model, alert.site, alert.camera) and row["version"] in (version, None) and row["count"]:
            return float(row[rule.statistic]), int(row["count"])
    return None, 0


def _verdict(rule: AlertRule, before: float, after: float | None) -> str:
    if after is None:
        return "too_few"
    if not rule.holds(after):
        return "helped"
    better = after > before if rule.op.startswith("<") else after < before
    return "better" if better else "no_help"
