"""The fleet: site by site, whether the model is well, unwell or unknown, why, since when, and what is advised.

Well needs two things that are known: figures on labelled pictures of the place that break no rule, and cameras that
report, where they ever did. Everything else is unknown. Nothing here imports torch or MLflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.metrics import CATALOGUE, Direction
from guardianflow.dashboard.alerts import SILENT, Alert, AlertEngine, AlertRules
from guardianflow.dashboard.fleet_page import fleet_content, fleet_html
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.recommendations import Recommendation, Recommendations
from guardianflow.dashboard.site_figures import ACCURACY, LABELLED, LIVE, Part, SiteFigures, newest
from guardianflow.dashboard.site_states import (
    WORST_FIRST,
    Advice,
    CameraState,
    Figure,
    Reason,
    SiteState,
    State,
    Trend,
    plain,
)
from guardianflow.exceptions import GuardianFlowError

__all__ = ["Fleet", "fleet", "is_hint"]

_SILENCE_S = 2 * 3600.0
_USUAL_WINDOW = timedelta(days=30)
_PAST = 1000


@dataclass(frozen=True)
class Fleet:
    """All sites at a moment.

    Attributes:
        sites: The worst first, then by name.
        now: The moment.
        elsewhere: Why, for alerts that name no site.
        trouble: What stands against reading the figures; then nothing is known of any site.
    """

    sites: tuple[SiteState, ...]
    now: datetime
    elsewhere: tuple[Reason, ...] = ()
    trouble: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        found: dict[str, Any] = plain(self)
        return found

    def content_html(self, language: str = "en", *, links: Mapping[str, str] | None = None) -> str:
        """The same as :meth:`to_html`, for a page or a notebook around it."""
        return fleet_content(
            self.sites, self.elsewhere, self.trouble, now=self.now, language=language, links=links or {}
        )

    def to_html(self, language: str = "en", *, links: Mapping[str, str] | None = None) -> str:
        """A page of its own, which loads nothing from elsewhere.

        Args:
            language: ``"en"`` or ``"ko"``.
            links: Name of a page (``"fleet"``, ``"optimizer"``) → its address.
        """
        return fleet_html(self.sites, self.elsewhere, self.trouble, now=self.now, language=language, links=links or {})


def fleet(settings: Settings | None = None, now: datetime | None = None, *, rules: AlertRules | None = None) -> Fleet:
    """How the sites are; what can't be read is said, not raised.

    The rules are evaluated first, so that the page never tells of yesterday.

    Args:
        settings: Where figures and alerts are. Default: the environment's.
        now: The moment that is looked at. Default: now.
        rules: The alert rules. Default: those of the settings.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    try:
        settings = settings or Settings()
        store = MetricsStore(settings.database_url)
        return _Reader(store, rules or AlertRules.load(settings=settings), moment).fleet()
    except GuardianFlowError as error:
        return Fleet((), moment, trouble=mask_secrets(str(error)))


class _Reader:
    """What the store holds at a moment, and what it means."""

    def __init__(self, store: MetricsStore, rules: AlertRules, now: datetime) -> None:
        self._rules, self._now = rules, now
        accuracy = (rule for rule in rules.rules if rule.metric == ACCURACY and rule.source == LABELLED)
        silence = (rule.bound for rule in rules.rules if rule.is_silence and rule.source == LIVE)
        self._accuracy_rule = next(accuracy, None)
        self._silence_s = next(silence, _SILENCE_S)
        engine = AlertEngine(store, rules, clock=lambda: now)
        self._open = [alert for alert in engine.evaluate(now) if alert.state != "resolved"]
        self._past = engine.list(state="resolved", limit=_PAST)
        self._advice = {item.alert_id: item for item in Recommendations(store.database).list()}
        self._figures = SiteFigures(store, now)
        alerts = {_place(alert) for alert in self._open if alert.site}
        self._parts = _named_models(self._figures.parts() | alerts)

    def fleet(self) -> Fleet:
        sites = [self._site(name) for name in sorted({part.site for part in self._parts})]
        elsewhere = tuple(self._broken(alert) for alert in self._open if not alert.site and alert.state == "firing")
        return Fleet(tuple(sorted(sites, key=lambda site: WORST_FIRST.index(site.state))), self._now, elsewhere)

    # --- a site -----------------------------------------------------------------------------------

    def _site(self, site: str) -> SiteState:
        parts = {part for part in self._parts.values() if part.site == site}
        watched = {part.model for part in parts if part.camera}
        shown = [part for part in sorted(parts) if part.camera or part.model not in watched]
        cameras = sorted(map(self._camera, shown), key=lambda camera: WORST_FIRST.index(camera.state))
        state = cameras[0].state
        reasons = _distinct(reason for camera in cameras if camera.state == state for reason in camera.reasons)
        others = (reason for camera in cameras if camera.state != State.WELL for reason in camera.reasons)
        since = [camera.since for camera in cameras if camera.state == state and camera.since]
        models = sorted({part.model for part in shown if part.model})
        return SiteState(
            site=site,
            state=state,
            reasons=reasons[:1] if state == State.WELL else _distinct((*reasons, *others)),
            since=(max(since) if state == State.WELL else min(since)) if since else None,
            advice=self._advise(site, cameras),
            models={model: self._figures.champion(model) for model in models},
            cameras=tuple(cameras),
            trend=self._trend(site, reasons),
        )

    def _camera(self, part: Part) -> CameraState:
        places = {whole for whole, named in self._parts.items() if named in (part, replace(part, camera=""))}
        alerts = [alert for alert in self._open if _place(alert) in places]
        accuracy = self._accuracy(part, places)
        last_seen = max((time for whole, time in self._figures.seen.items() if self._is(whole, part)), default=None)
        unwell = [alert for alert in alerts if alert.state == "firing" and _is_trouble(alert)]
        silent = self._silence(part, alerts, last_seen)
        doubts = [*silent, *self._doubts(part, accuracy, alerts)]
        state = State.UNWELL if unwell else State.UNKNOWN if doubts else State.WELL
        reasons = [*map(self._broken, unwell), *doubts] or [self._well(accuracy, part)]
        since = {
            State.UNWELL: min((alert.since for alert in unwell), default=None),
            State.UNKNOWN: silent[0].facts["last_seen"] if silent else accuracy.time if accuracy else None,
            State.WELL: self._well_since(places),
        }[state]
        live = [figure for whole, figure in self._figures.live if self._is(whole, part)]
        notes = tuple(note for alert in alerts for note in self._notes(alert))
        figures = (*filter(None, [accuracy]), *live)
        return CameraState(
            part.camera or None, part.model or None, state, _distinct(reasons), notes, since, figures, last_seen
        )

    def _is(self, whole: Part, part: Part) -> bool:
        return self._parts.get(whole) == part

    def _accuracy(self, part: Part, places: set[Part]) -> Figure | None:
        """The newest accuracy of a camera; where it has none of its own, that of the site's sample."""
        own = newest(figure for whole, figure in self._figures.labelled if self._is(whole, part))
        return own or newest(figure for whole, figure in self._figures.labelled if whole in places)

    def _silence(self, part: Part, alerts: Sequence[Alert], last_seen: datetime | None) -> list[Reason]:
        if last_seen is not None and (self._now - last_seen).total_seconds() > self._silence_s:
            return [Reason("silent", {"last_seen": last_seen}, part.camera or None)]
        return [self._broken(alert) for alert in alerts if alert.metric == SILENT][:1]

    def _doubts(self, part: Part, accuracy: Figure | None, alerts: Sequence[Alert]) -> list[Reason]:
        """Why it can't be said that it sees well."""
        rule = self._accuracy_rule
        if accuracy is None or not self._is_fresh(accuracy):
            return [self._not_measured(part, accuracy)]
        firing = any(alert.metric == ACCURACY and alert.state == "firing" for alert in alerts)
        if rule is None or firing or not rule.holds(accuracy.value):
            return []
        facts = {"metric": ACCURACY, "value": accuracy.value, "op": rule.op, "limit": rule.bound}
        return [Reason("pending", facts, part.camera or None)]

    # --- what it means ----------------------------------------------------------------------------

    def _is_fresh(self, figure: Figure) -> bool:
        rule = self._accuracy_rule
        window = timedelta(seconds=rule.window_s) if rule else _USUAL_WINDOW
        return self._now - figure.time <= window

    def _broken(self, alert: Alert) -> Reason:
        if alert.metric == SILENT:
            last = alert.facts.get("last_seen")
            return Reason("silent", {"last_seen": datetime.fromisoformat(str(last))}, alert.camera)
        return Reason("broken", {"metric": alert.metric, "value": alert.value, **_bound(alert)}, alert.camera)

    def _not_measured(self, part: Part, last: Figure | None) -> Reason:
        camera = part.camera or None
        if last is not None:
            return Reason("measured_long_ago", {"time": last.time}, camera)
        champion, updated = self._figures.champions.get(part.model, (None, self._now))
        if champion is not None and any(alert.model == part.model and alert.site == part.site for alert in self._past):
            return Reason("new_version", {"version": champion, "time": updated}, camera)
        return Reason("not_measured", {}, camera)

    def _well(self, accuracy: Figure | None, part: Part) -> Reason:
        facts = {"metric": ACCURACY, "value": accuracy.value if accuracy else None}
        rule = self._accuracy_rule
        if rule is None:
            return Reason("well_no_rule", facts, part.camera or None)
        return Reason("well", {**facts, "op": rule.op, "limit": rule.bound}, part.camera or None)

    def _well_since(self, places: set[Part]) -> datetime | None:
        """Since its last alert ended, else since it is known."""
        ended = [
            alert.resolved for alert in self._past
            if alert.resolved and _is_trouble(alert) and (alert.site, alert.camera or "") in {
                (place.site, place.camera) for place in places
            }
        ]  # fmt: skip
        known = [time for whole, time in self._figures.measured.items() if whole in places]
        return max(ended, default=None) or min(known, default=None)

    def _notes(self, alert: Alert) -> Iterable[Reason]:
        if alert.metric == SILENT:
            kinds = []
        elif is_hint(alert):
            kinds = ["idle"] if alert.state == "firing" else []
        elif alert.state == "pending":
            kinds = ["pending"]
        else:
            kinds = ["recovering"] if alert.clear_since else []
        for kind in kinds:
            yield replace(self._broken(alert), kind=kind, facts={
                "metric": alert.metric, "value": alert.value, **_bound(alert), "time": alert.clear_since,
            })  # fmt: skip
        if alert.acked:
            yield Reason("acked", {"actor": alert.acked_by, "reason": alert.ack_reason}, alert.camera)

    def _advise(self, site: str, cameras: Sequence[CameraState]) -> tuple[Advice, ...]:
        found = []
        firing = [alert for alert in self._open if alert.site == site and alert.state == "firing"]
        for alert in firing:
            item = self._advice.get(alert.id)
            if item is not None:
                found.append(_advice_of(item))
            elif _is_trouble(alert):
                rule = self._rules.get(alert.rule)
                found.append(Advice("not_yet" if rule and rule.advise else "person"))
        kinds = {reason.kind for camera in cameras for reason in camera.reasons}
        if "silent" in kinds:
            found.append(Advice("silent"))
        if kinds & {"not_measured", "new_version", "measured_long_ago"}:
            found.append(Advice("measure"))
        return tuple(dict.fromkeys(found))

    def _trend(self, site: str, reasons: Sequence[Reason]) -> Trend | None:
        """Of what is broken first, else of the accuracy."""
        broken = next((reason for reason in reasons if reason.kind == "broken"), None)
        metric = str(broken.facts["metric"]) if broken else ACCURACY
        rule = next((rule for rule in self._rules.rules if rule.metric == metric), None)
        source = rule.source if rule else LABELLED
        camera = broken.camera or "" if broken else ""
        found = self._figures.trend(metric, source, site=site, camera=camera)
        return replace(found, op=rule.op, limit=rule.bound) if found and rule else found


def _place(alert: Alert) -> Part:
    return Part(alert.site or "", alert.camera or "", alert.model or "")


def _named_models(parts: set[Part]) -> dict[Part, Part]:
    """Each part with its model: figures that name none are those of the site's only model."""
    named: dict[Part, Part] = {}
    for part in parts:
        models = {other.model for other in parts if other.site == part.site and other.model}
        alone = next(iter(models)) if len(models) == 1 else ""
        named[part] = replace(part, model=part.model or alone)
    return named


def _bound(alert: Alert) -> dict[str, Any]:
    """How the rule held the value: from the alert, for the rules may have changed since."""
    _, op, limit = str(alert.facts.get("when") or "").rsplit(" ", 2)
    return {"op": op, "limit": float(limit)}


def _is_trouble(alert: Alert) -> bool:
    return alert.metric != SILENT and not is_hint(alert)


def is_hint(alert: Alert) -> bool:
    """Whether it tells of unused power: nothing is wrong with a model whose machine has time to spare."""
    spec = CATALOGUE.get(alert.metric)
    return spec is not None and spec.direction is Direction.NEITHER and " <" in str(alert.facts.get("when"))


def _advice_of(item: Recommendation) -> Advice:
    kind = {"withdrawn": "not_yet", "applied": "not_yet"}.get(item.state, item.state)
    if kind == "not_yet":
        return Advice(kind)
    return Advice(kind, item.action, item.id, item.actor or "", item.reason or "")


def _distinct(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    found: dict[tuple[Any, ...], Reason] = {}
    for reason in reasons:
        found.setdefault((reason.kind, reason.camera, *sorted(map(str, reason.facts.items()))), reason)
    return tuple(found.values())
