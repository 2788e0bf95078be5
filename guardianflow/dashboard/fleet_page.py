"""The fleet page: what somebody who is no engineer reads about the sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from guardianflow.dashboard.page_frame import (
    advice_text,
    dead_html,
    frame,
    metric_name,
    paragraphs,
    pill,
    reason_text,
    shown,
    trend_html,
)
from guardianflow.dashboard.site_states import Advice, CameraState, Figure, Reason, SiteState, State
from guardianflow.text.messages import ago, counted, moment, say
from guardianflow.text.printable import escape

__all__ = ["fleet_content", "fleet_html", "headline"]


def fleet_html(
    sites: Sequence[SiteState],
    elsewhere: Sequence[Reason],
    trouble: str,
    *,
    now: datetime,
    language: str,
    links: Mapping[str, str],
) -> str:
    """The page as a document of its own."""
    content = fleet_content(sites, elsewhere, trouble, now=now, language=language, links=links)
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(say('fleet.title', language))}</title></head>"
        f'<body style="margin:0;background:#f4f6f8">{content}</body></html>'
    )


def fleet_content(
    sites: Sequence[SiteState],
    elsewhere: Sequence[Reason],
    trouble: str,
    *,
    now: datetime,
    language: str,
    links: Mapping[str, str],
) -> str:
    """The page's content, for a page or a notebook around it."""
    if trouble:
        title, body = say("page.dead", language), dead_html(trouble, language)
    elif not sites and not elsewhere:
        title = say("fleet.empty", language)
        body = f'<div class="gf-empty">{escape(say("fleet.empty_next", language))}</div>'
    else:
        title = headline(sites, language)
        cards = "".join(_card(site, now, language, links) for site in sites)
        body = f'<div class="gf-grid">{cards}</div>' + _elsewhere(elsewhere, now, language)
    return frame(title, body, page="fleet", now=now, language=language, links=links)


def headline(sites: Sequence[SiteState], language: str) -> str:
    """All sites in one sentence."""
    states = Counter(site.state for site in sites)
    total, unwell, unknown = len(sites), states[State.UNWELL], states[State.UNKNOWN]
    if not sites:
        return say("fleet.title", language)
    if not unwell and not unknown:
        return counted("fleet.all_well", total, language)
    if unwell:
        text = counted("fleet.unwell", unwell, language, total=total)
        text += say("fleet.and_unknown", language, count=unknown) if unknown else ""
    else:
        text = counted("fleet.unknown", unknown, language, total=total)
    if states[State.WELL]:
        text += say("fleet.others_well", language)
    return text + "."


def _card(site: SiteState, now: datetime, language: str, links: Mapping[str, str]) -> str:
    several = len(site.cameras) > 1
    why = [_sentence(reason_text(reason, language, now, with_camera=several)) for reason in site.reasons]
    since = ""
    if site.since is not None and site.reasons[0].facts.get("last_seen") != site.since:  # said already
        since = paragraphs([_since(site.since, now, language)], "gf-soft")
    trend = trend_html(site.trend, language) if site.trend else ""
    cameras = "".join(_camera(camera, site, now, language) for camera in site.cameras)
    return (
        f'<section class="gf-card {site.state}"><div class="gf-head"><b>{escape(site.site)}</b>'
        f"{pill(site.state, language)}</div>"
        f"{paragraphs(why[:1], 'gf-why')}{paragraphs(why[1:], '')}{since}"
        f"{_advice(site.advice, language, links)}{trend}"
        f'<div class="gf-cameras gf-small">{cameras}</div>{paragraphs(_models(site, language), "gf-soft")}</section>'
    )


def _since(since: datetime, now: datetime, language: str) -> str:
    return _sentence(say("since", language, time=moment(since), age=ago(since, now, language)))


def _advice(advice: Sequence[Advice], language: str, links: Mapping[str, str]) -> str:
    if not advice:
        return ""
    texts = "".join(f"<div>{escape(_sentence(advice_text(item, language)))}</div>" for item in advice)
    decide = ""
    if any(item.kind in {"open", "waiting", "failed"} for item in advice) and "optimizer" in links:
        text = _sentence(say("advice.decide", language, page=say("page.optimizer", language)))
        decide = f'<div class="gf-soft"><a href="{escape(links["optimizer"])}">{escape(text)}</a></div>'
    return f'<div class="gf-advice"><b>{escape(say("advice.title", language))}</b>{texts}{decide}</div>'


def _camera(camera: CameraState, site: SiteState, now: datetime, language: str) -> str:
    name = camera.camera or say("camera.site", language)
    if len(site.models) > 1 and camera.model:
        name += f" · {camera.model}"
    reasons = camera.reasons if camera.state != State.WELL and len(site.cameras) > 1 else ()
    why = [_sentence(reason_text(reason, language, now)) for reason in (*reasons, *camera.notes)]
    figures = "".join(_figure(figure, now, language) for figure in camera.figures)
    return (
        f'<div class="gf-camera"><div class="gf-head"><b>{escape(name)}</b>{pill(camera.state, language)}</div>'
        f'{paragraphs(why, "")}<div class="gf-figures">{figures}</div></div>'
    )


def _figure(figure: Figure, now: datetime, language: str) -> str:
    name, age = escape(metric_name(figure.metric, language)), ago(figure.time, now, language)
    return f"<div><b>{escape(shown(figure.metric, figure.value))}</b><span>{name}</span><span>{age}</span></div>"


def _models(site: SiteState, language: str) -> list[str]:
    return [
        say("model.in_charge", language, model=model, version=version)
        if version
        else say("model.unregistered", language, model=model)
        for model, version in site.models.items()
    ]


def _elsewhere(reasons: Sequence[Reason], now: datetime, language: str) -> str:
    if not reasons:
        return ""
    texts = paragraphs([_sentence(reason_text(reason, language, now, with_camera=True)) for reason in reasons], "")
    return f'<h2>{escape(say("nowhere.title", language))}</h2><div class="gf-card unwell">{texts}</div>'


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
