"""Alerts: which series of a model, site and camera breaks a rule, since when, and what became of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa

from guardianflow.dashboard.aggregates import Where, conditions, group_rows, moment_of
from guardianflow.dashboard.alert_rules import SILENT, AlertRule, AlertRules, OptimizerLimits, span_text
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.registry.evidence import legal_text
from guardianflow.state.tables import alerts, metric_records, model_states
from guardianflow.views.result_page import Rows, format_metric

__all__ = [
    "SILENT",
    "STATES",
    "Alert",
    "AlertEngine",
    "AlertRule",
    "AlertRules",
    "OptimizerLimits",
    "Phase",
    "Series",
    "series_text",
]

STATES = ("pending", "firing", "resolved")

_SERIES = ("model", "site", "camera")
_TICK = timedelta(microseconds=1)
_MOST = 10_000

Series = tuple[str | None, str | None, str | None]


@dataclass(frozen=True)
class Phase:
    """Where an open alert stands, with Prometheus' meaning of ``for`` and ``keep_firing_for``.

    Attributes:
        since: When the rule was first true.
        fired: When it began to fire; ``None`` while it is pending.
        clear_since: Since when a firing alert's rule is no longer true.
    """

    since: datetime
    fired: datetime | None = None
    clear_since: datetime | None = None

    @staticmethod
    def after(
        before: Phase | None, holds: bool, now: datetime, *, for_s: float, keep_firing_for_s: float
    ) -> Phase | None:
        """The phase after one more evaluation; ``None``: inactive.

        A pending alert ends with the first evaluation that isn't true. A firing one goes on for
        ``keep_firing_for_s`` from that evaluation on, as ``rules/alerting.go`` of Prometheus has it.
        """
        if holds:
            phase = Phase(now) if before is None else replace(before, clear_since=None)
        elif before is None or before.fired is None:
            return None
        else:
            phase = replace(before, clear_since=before.clear_since or now)
            if keep_firing_for_s <= 0 or (now - (phase.clear_since or now)).total_seconds() >= keep_firing_for_s:
                return None
        if phase.fired is None and (now - phase.since).total_seconds() >= for_s:
            phase = replace(phase, fired=now)
        return phase


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
        facts: ``when`` (the rule's sentence), ``source``, ``statistic``, ``window_s``, ``figures`` (how many the
            value is made of), ``last_seen`` (ISO 8601) and ``version`` (whose figures they are, or ``None``).
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

    @property
    def series(self) -> Series:
        """Model, site and camera."""
        return self.model, self.site, self.camera

    def shown(self) -> dict[str, str]:
        """What a list of alerts shows of it."""
        return {
            "number": str(self.id),
            "state": self.state,
            "rule": self.rule,
            "when": str(self.facts.get("when", "")),
            "found": "" if self.value is None else format_metric(self.metric, self.value),
            **{name: getattr(self, name) or "" for name in ("model", "site", "camera")},
            "since": f"{self.since:%Y-%m-%d %H:%M} UTC",
            "ended by": self.ended_by or "",
            "known to": self.acked_by or "",
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON; times in ISO 8601."""
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class _Finding:
    """What a rule finds of a series; without enough figures there is no value, and nothing holds."""

    value: float | None
    holds: bool
    facts: Mapping[str, Any]


@dataclass
class _Changes:
    """What one evaluation writes."""

    closed: dict[int, str] = field(default_factory=dict)
    forgotten: list[int] = field(default_factory=list)
    updated: dict[int, dict[str, Any]] = field(default_factory=dict)
    opened: list[dict[str, Any]] = field(default_factory=list)

    def end(self, alert: Alert, reason: str) -> None:
        """A pending alert leaves no trace: it never was one."""
        if alert.fired is None:
            self.forgotten.append(alert.id)
        else:
            self.closed[alert.id] = reason


class AlertEngine:
    """Holds the figures of the store against the rules; the alerts are kept in the state database.

    A series is what a model, site and camera reported; figures that name neither model nor site belong to none.
    Where figures carry a version and the model has a champion, only the champion's count; those without a version
    count always. Silence is judged from all of them. Safe to evaluate from several threads, processes and machines
    at once, as long as they have the same rules.

    Args:
        store: Where the figures are, and the alerts.
        rules: The rules. Default: those of :meth:`AlertRules.load`.
        clock: What time it is, time-zone aware.

    Attributes:
        remarks: What the last :meth:`evaluate` could not tell, and what is odd about the rules.
    """

    def __init__(
        self, store: MetricsStore, rules: AlertRules | None = None, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.store = store
        self.rules = rules or AlertRules.load()
        self.remarks: tuple[str, ...] = self.rules.remarks
        self._clock = clock or (lambda: datetime.now(UTC))

    def evaluate(self, now: datetime | None = None) -> list[Alert]:
        """Evaluate every rule once.

        Args:
            now: The moment of the evaluation; later figures don't count. Default: the clock's.

        Returns:
            The alerts that are open now, and those that this call resolved; the oldest first.

        Raises:
            ConflictError: Somebody else evaluated for more than 30 s.
            TrackingUnavailableError: The database went away.
        """
        moment = moment_of("now", now or self._clock()) or datetime.now(UTC)
        database = self.store.database
        with database.lock("alert rules") if database.is_there() else nullcontext():  # without figures nothing begins
            with database.read() as connection:
                opened = _select(connection, alerts.c.open_key.is_not(None))
                champions = _champions(connection)
                found = {rule.name: _findings(connection, rule, moment) for rule in self.rules.rules}
            remarks = [text for rule in self.rules.rules for text in _unknown(rule, found[rule.name])]
            changes = _compare(self.rules, opened, champions, found, moment)
            if changes != _Changes():
                with database.write() as connection:
                    _write(connection, changes, moment)
            with database.read() as connection:
                touched = sa.or_(alerts.c.open_key.is_not(None), alerts.c.id.in_(list(changes.closed)))
                result = _select(connection, touched)
        removed = [f"alert {alert_id}" for alert_id, reason in changes.closed.items() if reason == "rule_removed"]
        if removed:
            remarks.append(
                f"ended because their rule is gone from {self.rules.path or 'the rules'}: {', '.join(removed)}"
            )
        self.remarks = (*self.rules.remarks, *remarks)
        return result

    def open(self) -> Rows[Alert]:
        """The alerts that are pending or firing, the oldest first."""
        with self.store.database.read() as connection:
            return _select(connection, alerts.c.open_key.is_not(None))

    def get(self, alert_id: int) -> Alert:
        """One alert.

        Raises:
            NotFoundError: There is none of that number.
        """
        with self.store.database.read() as connection:
            return _one(connection, alert_id)

    def list(
        self, *, state: str | None = None, model: str | None = None, site: str | None = None, limit: int = 100
    ) -> Rows[Alert]:
        """Alerts, the newest first.

        Args:
            state: One of :data:`STATES`; default all.
            model: Of this model only.
            site: Of this site only.
            limit: At most so many.

        Raises:
            InputError: There is no such state, or the limit can't be used.
        """
        if state is not None and state not in STATES:
            raise InputError(f"an alert is {', '.join(STATES[:-1])} or {STATES[-1]}, not {state!r}")
        if not 1 <= limit <= _MOST:
            raise InputError(f"limit must lie between 1 and {_MOST:,}, not {limit!r}")
        wanted = {"state": state, "model": model, "site": site}
        where = [alerts.c[name] == value for name, value in wanted.items() if value is not None]
        with self.store.database.read() as connection:
            return _select(connection, *where, newest=limit)

    def ack(self, alert_id: int, *, actor: str, reason: str) -> Alert:
        """Say that somebody knows of an alert. It goes on; the first acknowledgement stands.

        Args:
            alert_id: Its number.
            actor: Who.
            reason: Why, or what is being done.

        Raises:
            InputError: The alert has ended, or a text is missing.
            NotFoundError: There is no such alert.
        """
        texts = {
            "acked_by": legal_text(actor, "actor", most=200),
            "ack_reason": legal_text(reason, "reason", most=2000),
        }
        if None in texts.values():
            raise InputError("an acknowledgement needs an actor and a reason; say in a few words what is known")
        free = (alerts.c.id == alert_id) & alerts.c.acked.is_(None) & alerts.c.open_key.is_not(None)
        with self.store.database.write() as connection:
            connection.execute(alerts.update().where(free).values(acked=self._clock(), **texts))
            alert = _one(connection, alert_id)
        if alert.acked is None:
            raise InputError(f"alert {alert_id} has ended ({alert.ended_by}); only an open one is acknowledged")
        return alert


def _compare(
    rules: AlertRules,
    opened: list[Alert],
    champions: Mapping[str, str],
    found: Mapping[str, Mapping[Series, _Finding]],
    now: datetime,
) -> _Changes:
    """What becomes of the open alerts, and which ones begin."""
    changes = _Changes()
    known = set()
    for alert in opened:
        rule = rules.get(alert.rule)
        version = alert.facts.get("version")
        if rule is None or (rule.metric, rule.source) != (alert.metric, alert.facts["source"]):
            changes.end(alert, "rule_removed")
        elif version is not None and champions.get(alert.model or "", version) != version:
            changes.end(alert, "new_champion")
        else:
            known.add((rule.name, alert.series))
            _go_on(changes, rule, alert, found[rule.name].get(alert.series), now)
    for rule in rules.rules:
        for series, finding in found[rule.name].items():
            if finding.holds and (rule.name, series) not in known:
                changes.opened.append(_opened(rule, series, finding, now))
    return changes


def _go_on(changes: _Changes, rule: AlertRule, alert: Alert, finding: _Finding | None, now: datetime) -> None:
    holds = finding is not None and finding.holds
    before = Phase(alert.since, alert.fired, alert.clear_since)
    phase = Phase.after(before, holds, now, for_s=rule.for_s, keep_firing_for_s=rule.keep_firing_for_s)
    if phase is None:
        changes.end(alert, "no_figures" if finding is None or finding.value is None else "recovered")
        return
    values = _phase_values(phase)
    if finding is not None and holds:
        values |= {"value": finding.value, "facts": dict(finding.facts), "last_true": now}
    changes.updated[alert.id] = values


def _opened(rule: AlertRule, series: Series, finding: _Finding, now: datetime) -> dict[str, Any]:
    phase = Phase.after(None, True, now, for_s=rule.for_s, keep_firing_for_s=rule.keep_firing_for_s) or Phase(now)
    key = json.dumps([rule.name, *series])
    return {
        "open_key": hashlib.sha256(key.encode()).hexdigest(),
        "rule": rule.name,
        "metric": rule.metric,
        **dict(zip(_SERIES, series, strict=True)),
        "value": finding.value,
        "facts": dict(finding.facts),
        "last_true": now,
        **_phase_values(phase),
    }


def _phase_values(phase: Phase) -> dict[str, Any]:
    return {**vars(phase), "state": "pending" if phase.fired is None else "firing"}


def _write(connection: sa.Connection, changes: _Changes, now: datetime) -> None:
    for alert_id, reason in changes.closed.items():
        ended = {"state": "resolved", "resolved": now, "ended_by": reason, "open_key": None}
        connection.execute(alerts.update().where(alerts.c.id == alert_id).values(**ended))
    if changes.forgotten:
        connection.execute(alerts.delete().where(alerts.c.id.in_(changes.forgotten)))
    for alert_id, values in changes.updated.items():
        connection.execute(alerts.update().where(alerts.c.id == alert_id).values(**values))
    if changes.opened:
        connection.execute(alerts.insert(), changes.opened)


_COLUMNS = [column for column in alerts.columns if column.name != "open_key"]


def _select(connection: sa.Connection, *where: sa.ColumnElement[bool], newest: int | None = None) -> Rows[Alert]:
    query = sa.select(*_COLUMNS).where(*where)
    query = query.order_by(alerts.c.id) if newest is None else query.order_by(alerts.c.id.desc()).limit(newest)
    return Rows(Alert(**row) for row in connection.execute(query).mappings())


def _one(connection: sa.Connection, alert_id: int) -> Alert:
    found = _select(connection, alerts.c.id == alert_id)
    if not found:
        raise NotFoundError(f"there is no alert {alert_id}; `guardianflow alerts list` shows those there are")
    return found[0]


def _champions(connection: sa.Connection) -> dict[str, str]:
    query = sa.select(model_states.c.name, model_states.c.champion).where(model_states.c.champion.is_not(None))
    return {name: str(champion) for name, champion in connection.execute(query)}


def _findings(connection: sa.Connection, rule: AlertRule, now: datetime) -> dict[Series, _Finding]:
    table = metric_records.c
    of_somebody = sa.or_(table.model.is_not(None), table.site.is_not(None))
    where: Where = {"source": rule.source, "start": now - timedelta(seconds=rule.window_s), "end": now + _TICK}
    facts = {"when": rule.when, "source": rule.source, "window_s": rule.window_s}
    if rule.is_silence:
        return _silent(connection, rule, now, facts, [*conditions(where), of_somebody])
    where["metric"] = rule.metric
    champion = sa.select(model_states.c.champion).where(model_states.c.name == table.model).scalar_subquery()
    counts = sa.or_(table.version.is_(None), table.version == sa.func.coalesce(champion, table.version))
    versions = _versions(connection, [*conditions(where), of_somebody, counts])
    found = {}
    for row in group_rows(connection, where, _SERIES, of_somebody, counts):
        series: Series = (row["model"], row["site"], row["camera"])
        value = row[rule.statistic] if row["count"] >= rule.at_least else None
        last_seen = row["last_time"].isoformat() if row["last_time"] else None  # nothing but figures that are none
        more = {"statistic": rule.statistic, "figures": row["count"], "invalid": row["invalid"]}
        more |= {"last_seen": last_seen, "version": versions[series]}
        found[series] = _Finding(value, value is not None and rule.holds(value), {**facts, **more})
    return found


def _silent(
    connection: sa.Connection,
    rule: AlertRule,
    now: datetime,
    facts: Mapping[str, Any],
    where: Sequence[sa.ColumnElement[bool]],
) -> dict[Series, _Finding]:
    """How long ago each series was seen; one whose figures are no numbers did report."""
    labels = [metric_records.c[name] for name in _SERIES]
    time = metric_records.c.time
    query = sa.select(*labels, sa.func.count(), sa.func.max(time, type_=time.type)).where(*where).group_by(*labels)
    found = {}
    for *series, figures, last in connection.execute(query):
        seconds = (now - last).total_seconds()
        more = {"figures": figures, "last_seen": last.isoformat(), "version": None}
        found[cast(Series, tuple(series))] = _Finding(seconds, rule.holds(seconds), {**facts, **more})
    return found


def _versions(connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]]) -> dict[Series, str | None]:
    """Whose figures a series has; ``None`` where they name no version, or several."""
    labels = [metric_records.c[name] for name in _SERIES]
    version = metric_records.c.version
    query = sa.select(*labels, sa.func.min(version), sa.func.max(version)).where(*where).group_by(*labels)
    rows = connection.execute(query)
    return {cast(Series, tuple(series)): first if first == last else None for *series, first, last in rows}


def _unknown(rule: AlertRule, found: Mapping[Series, _Finding]) -> Iterator[str]:
    """What a rule can't tell: that is never "well"."""
    if not found:
        what = "" if rule.is_silence else f" of {rule.metric}"
        yield f"rule {rule.name}: no series has figures{what} (source {rule.source}) within {span_text(rule.window_s)}"
    for series, finding in found.items():
        if finding.value is None:
            figures, invalid = finding.facts["figures"], finding.facts["invalid"]
            no_numbers = f" and {invalid} that are no numbers" if invalid else ""
            yield (
                f"rule {rule.name}: unknown of {series_text(series)}: {figures} figures{no_numbers} within "
                f"{span_text(rule.window_s)}, the rule needs {rule.at_least}"
            )


def series_text(series: Series) -> str:
    """``"person at gate-3, camera c1"``."""
    model, site, camera = series
    place = f" at {site}" if site else ""
    return f"{model or 'an unnamed model'}{place}{f', camera {camera}' if camera else ''}"
