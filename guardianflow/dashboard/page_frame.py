"""What the pages for people share: their look, and facts as sentences. Plain HTML and CSS: no viewer strips it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from guardianflow.core.metrics import CATALOGUE
from guardianflow.dashboard.site_states import Advice, Reason, Trend
from guardianflow.text.messages import MESSAGES, ago, moment, say, span
from guardianflow.text.printable import escape
from guardianflow.views.result_page import format_metric

__all__ = [
    "STYLE", "action_text", "advice_text", "bound_text", "dead_html", "figures_html", "frame", "metric_name",
    "paragraphs", "pill", "reason_text", "shown", "top_html", "trend_html",
]  # fmt: skip

_SIGNS = {"well": "✓", "unwell": "!", "unknown": "?", "note": "i"}

STYLE = """
body[data-voila]{--gf-page:#f4f6f8}body[data-voila].theme-dark{--gf-page:#111}
body[data-voila]:has(.gf),body[data-voila] #rendered_cells:has(.gf){background:var(--gf-page)!important}
.gf{--ink:var(--jp-ui-font-color1,#1f2933);--soft:var(--jp-ui-font-color2,#5b6673);--line:var(--jp-border-color2,#dfe3e8);
--card:var(--jp-layout-color1,#fff);--page:var(--gf-page,var(--jp-layout-color0,#f4f6f8));--well:#00704f;
--well-bg:#e3f4ed;--unwell:#b03a00;--unwell-bg:#fdebe1;--unknown:#56606c;--unknown-bg:#eceff2;--blue:#0072b2;
--blue-bg:#eaf4fa;--blue-ink:#00507e;--bar:#86b9d8;--on:#fff;
color:var(--ink);background:var(--page);box-sizing:border-box;padding:20px clamp(12px,3vw,40px) 40px;
font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans","Noto Sans KR","Noto Sans CJK KR","Malgun Gothic",
sans-serif;white-space:normal}
[data-jp-theme-light="false"] .gf{--well:#4fc99d;--well-bg:#11352a;--unwell:#ff9d66;--unwell-bg:#432414;
--unknown:#aab4bf;--unknown-bg:#333a42;--blue:#6cb9ea;--blue-bg:#142b3c;--blue-ink:#a8d8f6;--bar:#3d7ba3;--on:#111}
body:not([data-voila]) .jp-OutputArea .gf{padding:6px 12px 14px}
body:not([data-voila]) .jp-OutputArea .gf h1{font-size:20px;margin:6px 0 12px}
.gf *{box-sizing:border-box}
.gf .gf-in{max-width:1240px;margin:0 auto}
.gf.gf-page{height:auto;overflow:visible;--jp-widgets-font-size:15px}
.gf.gf-page .widget-box,.gf.gf-page .widget-html{margin:0;overflow:visible;height:auto;max-width:100%}
.gf.gf-page>.widget-html,.gf.gf-page>.widget-box{width:100%;max-width:920px;margin:0 auto}
.gf.gf-page .widget-html-content{font:inherit;line-height:1.5;color:inherit;width:100%;white-space:normal}
.gf .gf-decide{flex-flow:row wrap;gap:8px;margin-top:12px!important;align-items:center}
.gf .gf-decide>*{margin:0}.gf .gf-decide .widget-text{flex:1 1 180px;min-width:140px;max-width:380px}
.gf .gf-decide .jupyter-button{width:auto;max-width:100%;padding:0 14px}
.gf .gf-decide .widget-dropdown{width:auto;min-width:220px;max-width:100%}
.gf .gf-decide+.widget-html{margin-top:10px!important}
.gf .gf-key{flex-flow:row wrap;gap:10px;align-items:center;margin-top:14px!important}
.gf .gf-advised{margin-top:12px!important}
.gf nav{display:flex;gap:18px;flex-wrap:wrap;font-size:14px;color:var(--soft);align-items:baseline}
.gf nav a{color:var(--blue);text-decoration:none}.gf nav a:hover{text-decoration:underline}
.gf nav b{color:var(--ink)}.gf nav span{margin-left:auto}
.gf h1{font-size:27px;line-height:1.25;font-weight:650;margin:14px 0 20px;letter-spacing:-.01em}
.gf h2{font-size:18px;font-weight:650;margin:26px 0 10px}
.gf .gf-grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:16px;
align-items:start}
.gf .gf-card{background:var(--card);border:1px solid var(--line);border-top:4px solid var(--c,var(--line));
border-radius:10px;padding:16px 18px;min-width:0}
.gf .gf-head{display:flex;align-items:center;gap:10px;flex-wrap:wrap}
.gf .gf-head b{font-size:19px;font-weight:650;overflow-wrap:anywhere;flex:1 1 auto}
.gf .well{--c:var(--well);--b:var(--well-bg)}.gf .unwell{--c:var(--unwell);--b:var(--unwell-bg)}
.gf .unknown{--c:var(--unknown);--b:var(--unknown-bg)}
.gf .note{--c:var(--blue);--b:var(--blue-bg)}
.gf .gf-pill{display:inline-flex;align-items:center;gap:7px;color:var(--c);background:var(--b);border-radius:99px;
padding:2px 12px 2px 3px;font-weight:600;white-space:nowrap}
.gf .gf-pill i{display:inline-block;width:22px;height:22px;line-height:22px;border-radius:50%;background:var(--c);
color:var(--on);text-align:center;font-style:normal;font-weight:700;font-size:14px}
.gf .gf-small .gf-pill{font-size:13px;padding:1px 9px 1px 2px;gap:5px}
.gf .gf-small .gf-pill i{width:17px;height:17px;line-height:17px;font-size:11px}
.gf p{margin:8px 0 0;overflow-wrap:anywhere}.gf .gf-why{font-size:16px}.gf .gf-soft{color:var(--soft);font-size:13.5px}
.gf .gf-advice{margin-top:12px;border-left:3px solid var(--blue);background:var(--blue-bg);border-radius:0 6px 6px 0;
padding:8px 12px}
.gf .gf-advice b{color:var(--blue-ink);display:block;font-size:13px}
.gf .gf-trend{margin-top:14px}
.gf .gf-bars{position:relative;display:flex;align-items:flex-end;gap:2px;height:54px;
border-bottom:1px solid var(--line)}
.gf .gf-bars span{flex:1;min-width:1px;border-radius:2px 2px 0 0;background:var(--bar)}
.gf .gf-bars span.bad{background:#d55e00}
.gf .gf-bars em{position:absolute;left:0;right:0;border-top:1.5px dashed var(--soft);height:0}
.gf .gf-cameras{margin-top:14px;border-top:1px solid var(--line)}
.gf .gf-camera{padding:9px 0;border-bottom:1px solid var(--line)}
.gf .gf-camera:last-child{border-bottom:0;padding-bottom:0}
.gf .gf-camera .gf-head b{font-size:15px;font-weight:600}
.gf .gf-camera p{margin-top:3px;font-size:14px}.gf .gf-camera p.gf-soft{font-size:13px}
.gf a{color:var(--blue)}
.gf table{border-collapse:collapse;font-size:14px}.gf th{color:var(--soft);font-weight:600}
.gf th,.gf td{padding:6px 14px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
.gf .gf-scroll{overflow-x:auto}.gf .gf-plot{margin-top:14px!important;padding:6px;width:100%;overflow-x:auto!important}
.gf.gf-page .widget-vbox{width:100%}
.gf .gf-figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(68px,1fr));gap:8px 8px;margin-top:7px}
.gf .gf-figures b{display:block;font-size:14.5px;font-weight:600}
.gf .gf-figures span{display:block;color:var(--soft);font-size:12px;line-height:1.35}
.gf .gf-progress{height:10px;border-radius:5px;background:var(--line);margin-top:12px;overflow:hidden}
.gf .gf-progress i{display:block;height:100%;background:var(--blue);border-radius:5px}
.gf .gf-curve{display:block;width:100%;height:150px;margin-top:12px;border-left:1px solid var(--line);
border-bottom:1px solid var(--line);overflow:visible}
.gf .gf-curve :is(polyline,path){fill:none;stroke-width:2.5;vector-effect:non-scaling-stroke;stroke-linejoin:round;
stroke-linecap:round}.gf .gf-curve path{stroke-width:8}
.gf .gf-legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13.5px}
.gf .gf-legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px}
.gf .gf-empty{background:var(--card);border:1px dashed var(--soft);border-radius:10px;padding:26px 24px;max-width:720px}
.gf details{margin-top:10px;font-size:14px}.gf summary{cursor:pointer;color:var(--blue)}
.gf pre{background:var(--page);color:inherit;
border:1px solid var(--line);border-radius:6px;padding:10px;overflow:auto;font-size:12.5px;
line-height:1.45;margin:8px 0 0;white-space:pre-wrap;overflow-wrap:anywhere}
.gf dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:4px 14px;margin:10px 0 0}
.gf dl dt{color:var(--soft);font-size:13.5px;width:auto;float:none}
.gf dl dd{margin:0;width:auto;overflow-wrap:anywhere}
@media(max-width:520px){.gf h1{font-size:22px}.gf dl{grid-template-columns:1fr;gap:0}.gf dt{margin-top:6px}
.gf nav span{margin-left:0;width:100%}}
"""
"""Everything stands under ``.gf``; of a page around it only the background changes. Colours are those of JupyterLab's
theme, which Voila has too; a page without either is light."""


def frame(title: str, body: str, *, page: str, now: datetime, language: str, links: Mapping[str, str]) -> str:
    """A page's content under its title, with the way to the other pages."""
    top = top_html(title, page=page, now=now, language=language, links=links)
    return f'<div class="gf" lang="{language}"><div class="gf-in">{top}{body}</div></div>'


def top_html(
    title: str, *, page: str, now: datetime, language: str, links: Mapping[str, str], more: str = ""
) -> str:  # fmt: skip
    """The way to the other pages, the moment and the title; brings the look along, and ``more`` of it."""
    ways = "".join(
        f"<b>{say(f'page.{name}', language)}</b>"
        if name == page
        else f'<a href="{escape(target)}">{say(f"page.{name}", language)}</a>'
        for name, target in links.items()
    )
    as_of = say("fleet.as_of", language, time=moment(now))
    return f"<style>{STYLE}{more}</style><nav>{ways}<span>{as_of}</span></nav><h1>{escape(title)}</h1>"


def dead_html(trouble: str, language: str) -> str:
    """What stands where figures can't be read."""
    return (
        f'<div class="gf-empty"><p>{say("page.dead_next", language)}</p><details><summary>'
        f"{say('page.details', language)}</summary><pre>{escape(trouble)}</pre></details></div>"
    )


def pill(state: str, language: str, text: str = "") -> str:
    """A state, or ``"note"``: a colour, a sign and a word."""
    word = text or say(f"state.{state}", language)
    return f'<span class="gf-pill {state}"><i aria-hidden="true">{_SIGNS[state]}</i>{escape(word)}</span>'


def metric_name(metric: str, language: str) -> str:
    """A metric in words; by its name where there are none."""
    key = f"metric.{metric}"
    if key in MESSAGES:
        return say(key, language)
    return CATALOGUE[metric].description.lower() if metric in CATALOGUE and language == "en" else metric


def shown(metric: str, value: float | None) -> str:
    """A figure as the pages show it: two places for a fraction, the unit behind it."""
    spec = CATALOGUE.get(metric)
    if value is not None and spec is not None and spec.unit == "fraction":
        return f"{value:.2f}" if abs(value - round(value, 2)) < 5e-4 else f"{value:.3f}"
    if value is not None and spec is not None and spec.unit == "images/s":
        return f"{value:.1f}"
    return format_metric(metric, value).replace(".0 ", " ")


def figures_html(figures: Mapping[str, float], language: str) -> str:
    """Figures beside each other, each with its name below; nothing where there is none."""
    cells = "".join(
        f"<div><b>{escape(shown(name, value))}</b><span>{escape(metric_name(name, language))}</span></div>"
        for name, value in figures.items()
    )
    return f'<div class="gf-figures">{cells}</div>' if cells else ""


def bound_text(metric: str, op: str, limit: float, language: str) -> str:
    """What a rule wants, from what it warns of: ``< 0.75`` wants at least 0.75."""
    return say("bound.least" if op.startswith("<") else "bound.most", language, limit=shown(metric, limit))


def reason_text(reason: Reason, language: str, now: datetime, *, with_camera: bool = False) -> str:
    """A reason as a sentence without its full stop."""
    facts = dict(reason.facts)
    if "metric" in facts:
        metric = facts["metric"]
        facts |= {"metric": metric_name(metric, language), "value": shown(metric, facts["value"])}
        if "limit" in facts:
            facts["bound"] = bound_text(metric, facts["op"], facts["limit"], language)
            facts["limit"] = shown(metric, facts["limit"])
    for name in ("last_seen", "time"):
        if isinstance(facts.get(name), datetime):
            facts |= {"age": ago(facts[name], now, language), name: moment(facts[name])}
    text = say(f"why.{reason.kind}", language, **facts)
    if with_camera and reason.camera:
        return say("why.on_camera", language, camera=reason.camera, text=text)
    return text


def action_text(action: str, language: str) -> str:
    """What an action does; its name where it comes from another package."""
    key = f"action.{action}"
    return say(key, language) if key in MESSAGES else say("action.other", language, name=action)


def advice_text(advice: Advice, language: str) -> str:
    """A piece of advice as a sentence without its full stop."""
    values: dict[str, Any] = {
        "action": action_text(advice.action, language), "actor": advice.actor, "reason": advice.reason,
    }  # fmt: skip
    return say(f"advice.{advice.kind}", language, **values)


def trend_html(trend: Trend, language: str) -> str:
    """How a metric went, as bars; a gap stays a gap, and a bar that breaks the rule has another colour."""
    values = [value for _, value in trend.points if value is not None]
    spec = CATALOGUE.get(trend.metric)
    top = 1.0 if spec is not None and spec.unit == "fraction" else max(*values, trend.limit or 0.0) * 1.1 or 1.0
    bars = "".join(_bar(trend, time, value, top) for time, value in trend.points)
    words = [metric_name(trend.metric, language), say("time.last", language, span=span(trend.span_s, language))]
    caption = say("trend.caption", language, metric=words[0], span=words[1])
    line = ""
    if trend.limit is not None:
        line = f'<em style="bottom:{min(trend.limit / top, 1.0) * 100:.1f}%"></em>'
        bound = bound_text(trend.metric, trend.op, trend.limit, language)
        caption += "; " + say("trend.line", language, bound=bound)
    return (
        f'<div class="gf-trend"><div class="gf-bars" role="img" aria-label="{escape(caption)}">{bars}{line}</div>'
        f'<p class="gf-soft">{escape(caption)}</p></div>'
    )


def _bar(trend: Trend, time: datetime, value: float | None, top: float) -> str:
    if value is None:
        return '<span style="height:0"></span>'
    bad = trend.limit is not None and (value < trend.limit if trend.op.startswith("<") else value > trend.limit)
    title = f"{moment(time)}: {shown(trend.metric, value)}"
    kind = ' class="bad"' if bad else ""
    return f'<span{kind} style="height:{max(value / top, 0.02) * 100:.1f}%" title="{escape(title)}"></span>'


def paragraphs(texts: Iterable[str], kind: str) -> str:
    """Sentences, each a paragraph."""
    return "".join(f'<p class="{kind}">{escape(text)}</p>' for text in texts)
