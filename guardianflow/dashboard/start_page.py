"""The start page: how the sites are in one line, and what is on which page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.dashboard import fleet_page, optimizer_page, trends_page
from guardianflow.dashboard.decisions import decisions
from guardianflow.dashboard.fleet import Fleet, fleet
from guardianflow.dashboard.page_frame import dead_html, frame, paragraphs, reason_text
from guardianflow.dashboard.site_states import State
from guardianflow.dashboard.trends import trends
from guardianflow.exceptions import GuardianFlowError
from guardianflow.state.database import Database
from guardianflow.state.tables import model_states
from guardianflow.text.messages import say
from guardianflow.text.printable import escape

__all__ = ["start_content"]

_MOST_MODELS = 5


def start_content(
    settings: Settings | None = None,
    *,
    pages: Sequence[str],
    language: str,
    links: Mapping[str, str],
    now: datetime | None = None,
) -> str:
    """The page's content; what can't be read is said, not raised.

    Args:
        settings: Where the figures are. Default: the environment's.
        pages: Names of the pages that there are.
        language: ``"en"`` or ``"ko"``.
        links: Page → its address; empty where none can be opened.
        now: The moment that is looked at. Default: now.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    sites = fleet(settings, moment)
    if sites.trouble:
        title, said, trouble = say("page.dead", language), {}, dead_html(sites.trouble, language)
    else:
        empty = not sites.sites and not sites.elsewhere
        title = say("fleet.empty", language) if empty else fleet_page.headline(sites.sites, language)
        advice, moved = decisions(settings, moment), trends(settings, moment)
        said, trouble = (
            {
                "fleet": say("fleet.empty_next", language) if empty else _worst(sites, language),
                "optimizer": optimizer_page.headline(advice, language),
                "trends": trends_page.headline(moved, language) if moved.metric else "",
                "registry": _models(settings, language),
            },
            "",
        )
    cards = "".join(_card(name, said.get(name, ""), language, links) for name in pages if name != "start")
    body = f'{trouble}<div class="gf-grid" style="margin-top:16px">{cards}</div>'
    return frame(title, body, page="start", now=moment, language=language, links=links)


def _card(name: str, said: str, language: str, links: Mapping[str, str]) -> str:
    title = escape(say(f"page.{name}", language))
    if name in links:
        title = f'<a href="{escape(links[name])}">{title}</a>'
    here = paragraphs([say(f"start.{name}", language)], "gf-soft")
    now = paragraphs([said], "gf-why") if said else ""
    return f'<section class="gf-card"><div class="gf-head"><b>{title}</b></div>{now}{here}</section>'


def _worst(sites: Fleet, language: str) -> str:
    """The first site that isn't well, and why."""
    for site in sites.sites:
        if site.state != State.WELL and site.reasons:
            return f"{site.site}: {reason_text(site.reasons[0], language, sites.now, with_camera=True)}."
    return ""


def _models(settings: Settings | None, language: str) -> str:
    """Which version of which model is in charge."""
    query = sa.select(model_states.c.name, model_states.c.champion).order_by(model_states.c.name)
    try:
        with Database.open((settings or Settings()).database_url).read() as connection:
            rows = connection.execute(query).all()
    except GuardianFlowError as error:
        return mask_secrets(str(error))
    texts = [
        say("model.in_charge", language, model=name, version=champion)
        if champion
        else say("model.unregistered", language, model=name)
        for name, champion in rows
    ]
    if not texts:
        return say("start.no_models", language)
    more = len(texts) - _MOST_MODELS
    text = "; ".join(texts[:_MOST_MODELS]) + (say("start.more_models", language, count=more) if more > 0 else "")
    return f"{text[:1].upper()}{text[1:]}."
