"""The optimizer page's parts: alerts, a recommendation with its evidence, what was done and whether it helped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import yaml

from guardianflow.dashboard.alerts import SILENT, Alert
from guardianflow.dashboard.decisions import Decisions, Effect
from guardianflow.dashboard.fleet import is_hint
from guardianflow.dashboard.page_frame import action_text, bound_text, metric_name, paragraphs, pill, shown
from guardianflow.dashboard.recommendations import Recommendation, State
from guardianflow.text.messages import ago, counted, moment, say, span
from guardianflow.text.printable import escape

__all__ = ["alerts_html", "done_html", "headline", "recommendation_html"]

_SHORT_ID = 8
_LIMIT_WORDS = 3


def headline(found: Decisions, language: str) -> str:
    """How much is open, in a sentence."""
    firing = sum(alert.state == "firing" for alert in found.alerts)
    waiting = sum(item.state != State.APPLYING for item, _ in found.advice)
    first = counted("optimizer.firing", firing, language) if firing else say("optimizer.no_alert", language)
    second = counted("optimizer.to_decide", waiting, language) if waiting else say("optimizer.no_advice", language)
    return f"{first} {second}"


def alerts_html(found: Decisions, language: str) -> str:
    """Open alerts, and the past ones folded."""
    rows = "".join(_alert(alert, found.now, language) for alert in found.alerts)
    past = "".join(_alert(alert, found.now, language) for alert in found.past)
    title = escape(say("optimizer.alerts", language))
    if not rows:
        rows = f'<p class="gf-soft">{escape(say("optimizer.no_alert", language))}</p>'
    folded = ""
    if past:
        summary = f"{say('optimizer.past', language)} ({len(found.past)})"
        folded = f"<details><summary>{escape(summary)}</summary>{past}</details>"
    return f'<h2>{title}</h2><div class="gf-card gf-small">{rows}{folded}</div>'


def _alert(alert: Alert, now: datetime, language: str) -> str:
    state = {"firing": "unwell", "pending": "note"}.get(alert.state, "well")
    if alert.state == "firing" and (alert.metric == SILENT or is_hint(alert)):
        state = "unknown" if alert.metric == SILENT else "note"
    times = [say("since", language, time=moment(alert.since), age=ago(alert.since, now, language))]
    if alert.resolved is not None:
        ended = say(f"ended.{alert.ended_by}", language)
        times = [f"{moment(alert.since)} – {moment(alert.resolved)}: {ended}"]
    if alert.acked:
        times.append(say("why.acked", language, actor=alert.acked_by, reason=alert.ack_reason))
    return (
        f'<div class="gf-camera"><div class="gf-head"><b>{escape(place_text(alert, language))}</b>'
        f"{pill(state, language, say(f'alert.{alert.state}', language))}</div>"
        f"{paragraphs([trouble_text(alert, language)], '')}{paragraphs(times, 'gf-soft')}</div>"
    )


def place_text(of: Alert | Recommendation, language: str) -> str:
    """Site and camera, else the model."""
    return " · ".join(part for part in (of.site, of.camera) if part) or of.model or say("camera.site", language)


def trouble_text(alert: Alert, language: str) -> str:
    """What an alert found, in words."""
    if alert.metric == SILENT:
        last = datetime.fromisoformat(str(alert.facts["last_seen"]))
        return say("why.silent", language, last_seen=moment(last), age=span(alert.value or 0.0, language))
    when = str(alert.facts.get("when") or "").rsplit(" ", 2)
    values = {"metric": metric_name(alert.metric, language), "value": shown(alert.metric, alert.value)}
    bound = bound_text(alert.metric, when[1], float(when[2]), language) if len(when) == _LIMIT_WORDS else ""
    return say("why.broken", language, bound=bound, **values)


def recommendation_html(item: Recommendation, alert: Alert, now: datetime, language: str) -> str:
    """What is advised, why, on which evidence, at which cost, and the exact scenario."""
    facts = item.facts
    rows = [
        ("optimizer.because", _because(item, alert, now, language)),
        ("optimizer.evidence", _evidence(item, alert, language)),
        *(("optimizer.caveat", text) for text in _caveats(facts, language)),
        ("optimizer.cost", _cost(item.cost, language)),
    ]
    state = "" if item.state == State.OPEN else say(f"done.{item.state}", language)
    said = str(item.outcome.get("said") or "") if item.state in (State.WAITING, State.FAILED) else ""
    made = ago(item.created, now, language)
    scenario = yaml.safe_dump(dict(item.scenario), sort_keys=False, allow_unicode=True)
    return (
        f'<div class="gf-head"><b>{escape(_title(action_text(item.action, language)))}</b>'
        f"{pill('note', language, state) if state else ''}</div>"
        f'<p class="gf-soft">{item.id} · {escape(item.model)} · {escape(made)}</p>'
        f"{_list(rows, language)}{paragraphs([said] if said else [], '')}"
        f"<details><summary>{escape(say('optimizer.scenario', language))}</summary>"
        f"<pre>{escape(scenario)}</pre></details>"
    )


def _because(item: Recommendation, alert: Alert, now: datetime, language: str) -> str:
    since = say("since", language, time=moment(alert.since), age=ago(alert.since, now, language))
    return f"{place_text(item, language)}: {trouble_text(alert, language)}, {since}"


def _evidence(item: Recommendation, alert: Alert, language: str) -> str:
    figures = counted("optimizer.figures_behind", int(alert.facts.get("figures") or 1), language)
    return f"{fit_text(item.action, item.facts, language)} ({say('optimizer.alert_of', language, figures=figures)})"


def fit_text(action: str, facts: Mapping[str, Any], language: str) -> str:
    """Why this action fits, from its facts; in its own words where it comes from another package."""
    if action == "retrain":
        return _retrain_fit(facts, language)
    if action == "roll_back" and facts.get("figures_before"):
        before = facts["figures_before"]
        figures = counted("optimizer.figures_behind", int(before["count"]), language)
        value = shown(str(facts["metric"]), before["p50"])
        known = {"champion": facts["champion"], "rollback": facts["rollback"]}
        return say("fit.roll_back", language, before=value, figures=figures, **known)
    if action == "quantize" and facts.get("precision"):
        return say("fit.quantize", language, champion=facts["champion"], precision=facts["precision"])
    if action == "raise_batch" and facts.get("batch_sizes"):
        return say("fit.raise_batch", language, sizes=", ".join(str(size) for size in facts["batch_sizes"][1:]))
    return str(facts.get("why") or "")


def _retrain_fit(facts: Mapping[str, Any], language: str) -> str:
    if facts.get("dataset_changed") is None:
        return str(facts.get("why") or "")
    if not facts["dataset_changed"]:
        return say("fit.unchanged", language)
    then, now = sum(facts.get("images_then", {}).values()), sum(facts.get("images", {}).values())
    return say("fit.grown", language, then=then, now=now) if then and then != now else say("fit.changed", language)


def _caveats(facts: Mapping[str, Any], language: str) -> list[str]:
    said = facts.get("dataset_changed") is False and language != "en"  # the evidence says it in this language
    return [] if said else [str(text) for text in facts.get("caveats", ())]


def _cost(cost: Mapping[str, Any], language: str) -> str:
    seconds = cost.get("seconds")
    if seconds is None:
        return say("optimizer.cost_unknown", language)
    run = str(cost.get("based_on") or "")[:_SHORT_ID]
    return say("optimizer.cost_known", language, span=span(float(seconds), language), run=run)


def done_html(found: Decisions, language: str) -> str:
    """What was decided, and what came of it."""
    rows = "".join(_done(item, effect, language) for item, effect in found.done)
    if not rows:
        rows = f'<p class="gf-soft">{escape(say("optimizer.nothing_done", language))}</p>'
    return f'<h2>{escape(say("optimizer.done", language))}</h2><div class="gf-card gf-small">{rows}</div>'


def _done(item: Recommendation, effect: Effect | None, language: str) -> str:
    state = "well" if item.outcome.get("promoted") else "note"
    time = item.ended or item.decided or item.created
    who = say("done.by", language, actor=item.actor, time=moment(time)) if item.actor else moment(time)
    title = f"{_title(action_text(item.action, language))}: {place_text(item, language)}"
    return (
        f'<div class="gf-camera"><div class="gf-head"><b>{escape(title)}</b>'
        f"{pill(state, language, say(f'done.{item.state}', language))}</div>"
        f"{paragraphs(_came_of_it(item, language), '')}{_effect(effect, language)}{paragraphs([who], 'gf-soft')}</div>"
    )


def _came_of_it(item: Recommendation, language: str) -> list[str]:
    if item.outcome.get("promoted"):
        values = {"version": item.outcome.get("champion"), "before": item.facts.get("champion")}
        return [_title(say("done.promoted", language, **values)) + "."]
    text = item.outcome.get("said") or item.reason
    return [_title(str(text))] if text else []


def _effect(effect: Effect | None, language: str) -> str:
    if effect is None:
        return ""
    values: dict[str, Any] = {
        "metric": metric_name(effect.metric, language),
        "before": shown(effect.metric, effect.before),
        "before_count": counted("optimizer.figures_behind", effect.before_count, language),
        "after_count": counted("optimizer.figures_behind", effect.after_count, language),
    }
    if effect.verdict == "too_few":
        text = say("effect.so_far", language, needed=effect.needed, **values)
    else:
        text = say("effect.figures", language, after=shown(effect.metric, effect.after), **values)
    return f"<p><b>{escape(say(f'effect.{effect.verdict}', language))}:</b> {escape(text)}.</p>"


def _list(rows: Iterable[tuple[str, str]], language: str) -> str:
    lines = "".join(f"<dt>{escape(say(key, language))}</dt><dd>{escape(_title(text))}</dd>" for key, text in rows)
    return f"<dl>{lines}</dl>"


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]
