"""Alerts: which series of a model, site and camera breaks a rule, since when, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from guardianflow.dashboard.alert_rules import SILENT, AlertRule, AlertRules, OptimizerLimits
from guardianflow.dashboard.metrics_store import MetricsStore

__all__ = ["SILENT", "Alert", "AlertEngine", "AlertRule", "AlertRules", "OptimizerLimits"]


@dataclass(frozen=True)
class Alert:
    """One occurrence of an alert.

    Attributes:
        id: Its number.
        rule: Name of its rule.
        metric: What is looked at; ``"silent"`` where a series stopped reporting.
        model: Registered model, or ``None``.
        site: Site, or ``None``.
        camera: Camera, or ``None``.
        state: ``"pending"``, ``"firing"`` or ``"resolved"``.
        value: What was found when the rule was last true, in the metric's unit; of a silent series the seconds
            since it was last seen.
        facts: ``rule`` (its text), ``source``, ``statistic``, ``window_s``, ``figures`` (how many the value is made
            of), ``last_seen`` (ISO 8601) and ``version`` (whose figures they are, or ``None``).
        since: When the rule was first true.
        fired: When the alert began to fire.
        last_true: When the rule was last found true.
        clear_since: Since when a firing alert's rule is no longer true; ``None`` while it is.
        resolved: When it ended.
        ended_by: ``"recovered"``, ``"no_figures"``, ``"rule_removed"`` or ``"new_champion"``.
        acked: When somebody acknowledged it.
        acked_by: Who.
        ack_reason: Why.
    """

    id: int
    rule: str
    metric: str
    model: str | None
    site: str | None
    camera: str | None
    state: str
    value: float | None
    facts: Mapping[str, Any]
    since: datetime
    fired: datetime | None
    last_true: datetime
    clear_since: datetime | None
    resolved: datetime | None
    ended_by: str | None
    acked: datetime | None
    acked_by: str | None
    ack_reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; times in ISO 8601."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in vars(self).items()
        } | {"facts": dict(self.facts)}


class AlertEngine:
    """Holds the figures of the store against the rules; the alerts are kept in the state database.

    Safe to evaluate from several threads, processes and machines at once.

    Args:
        store: Where the figures are, and the alerts.
        rules: The rules. Default: those of :meth:`AlertRules.load`.
        clock: What time it is, time-zone aware.
    """

    def __init__(
        self, store: MetricsStore, rules: AlertRules | None = None, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.store = store
        self.rules = rules or AlertRules.load()
        self._clock = clock or (lambda: datetime.now(UTC))

    def evaluate(self, now: datetime | None = None) -> list[Alert]:
        """Evaluate every rule: the alerts that are open now, and those that this call resolved."""
        raise NotImplementedError

    def open(self) -> list[Alert]:
        """The alerts that are pending or firing, the oldest first."""
        raise NotImplementedError

    def get(self, alert_id: int) -> Alert:
        """One alert."""
        raise NotImplementedError

    def list(
        self, *, state: str | None = None, model: str | None = None, site: str | None = None, limit: int = 100
    ) -> list[Alert]:
        """Alerts, the newest first."""
        raise NotImplementedError

    def ack(self, alert_id: int, *, actor: str, reason: str) -> Alert:
        """Say that somebody knows of an alert; the first acknowledgement stands."""
        raise NotImplementedError
