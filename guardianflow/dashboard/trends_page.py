"""How figures went, as people read it: what moved in a sentence, then a line a place; a gap stays a gap."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from statistics import median

from guardianflow.core.metrics import CATALOGUE
from guardianflow.dashboard.page_frame import bound_text, dead_html, metric_name, paragraphs, pill, shown
from guardianflow.dashboard.trends import SPANS, Line, Trends
from guardianflow.text.messages import counted, moment, say, span
from guardianflow.text.printable import escape

__all__ = ["headline", "lines_html"]

_GAP = 2.5
"""Neighbouring figures further apart than so many usual distances are not joined."""
_MOST = 40
_STYLE = """<style>
.gf .gf-line{position:relative;margin:14px 0 0 46px;height:96px;border-bottom:1px solid var(--line);
border-left:1px solid var(--line)}
.gf .gf-line svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.gf .gf-line path{fill:none;stroke:var(--blue);stroke-width:2;vector-effect:non-scaling-stroke;stroke-linecap:round;
stroke-linejoin:round}
.gf .gf-line path.dots{stroke-width:6}.gf .gf-line path.limit{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4}
.gf .gf-line span{position:absolute;right:100%;margin-right:6px;font-size:11.5px;line-height:1;color:var(--soft);
white-space:nowrap}
.gf .gf-ends{display:flex;justify-content:space-between;margin:4px 0 0 46px;font-size:11.5px;color:var(--soft)}
</style>"""


def headline(found: Trends, language: str) -> str:
    """What moved, in a sentence."""
    if found.trouble:
        return say("page.dead", language)
    if not found.metric:
        return say("fleet.empty", language)
    values = {"metric": metric_name(found.metric, language), "span": _span(found, language)}
    known = [line for line in found.lines if line.ends]
    moved = [line for line in known if line.moved]
    if not known:
        text = say("trends.all_few" if found.lines else "trends.none", language, **values)
        return text[:1].upper() + text[1:]
    if not moved:
        text = say("trends.still", language, **values)
    elif len(moved) == 1:
        text = _moved(moved[0], found, language) + (say("trends.rest", language) if len(known) > 1 else "")
    else:
        text = counted("trends.moved", len(moved), language, total=len(found.lines), **values)
    unknown = len(found.lines) - len(known)
    text += counted("trends.unknown", unknown, language) if unknown else ""
    return f"{text[:1].upper()}{text[1:]}."


def lines_html(found: Trends, language: str) -> str:
    """A card a place, those that moved for the worse first."""
    if found.trouble:
        return dead_html(found.trouble, language)
    if not found.lines:
        text = say("trends.none_next" if found.metric else "fleet.empty_next", language)
        return f'<div class="gf-empty">{escape(text)}</div>'
    note = ""
    if found.limit is not None:
        bound = bound_text(found.metric, found.op, found.limit, language)
        note = paragraphs([say("trends.line", language, bound=bound)], "gf-soft")
    cards = "".join(_card(line, found, language) for line in found.lines[:_MOST])
    more = len(found.lines) - _MOST
    rest = paragraphs([say("trends.more", language, count=more)], "gf-soft") if more > 0 else ""
    return f'{_STYLE}{note}<div class="gf-grid" style="margin-top:12px">{cards}</div>{rest}'


def _span(found: Trends, language: str) -> str:
    return say("time.last", language, span=span(found.span_s, language))


def _place(line: Line, language: str) -> str:
    return " · ".join(filter(None, [line.site, line.camera])) or say("model.alone", language, model=line.model)


def _moved(line: Line, found: Trends, language: str) -> str:
    metric, place = metric_name(found.metric, language), _place(line, language)
    key = "trends.rose" if line.moved > 0 else "trends.fell"
    return say(key, language, place=place, metric=metric, **_from_to(line, found))


def _from_to(line: Line, found: Trends) -> dict[str, str]:
    before, after = line.ends or (None, None)
    return {"before": shown(found.metric, before), "after": shown(found.metric, after)}


def _card(line: Line, found: Trends, language: str) -> str:
    worse = found.worse(line)
    state = "" if not line.moved else "note" if worse is None else "unwell" if worse else "well"
    sign = pill(state, language, say(f"trends.{state}", language)) if state else ""
    if line.moved:
        words = say("trends.up" if line.moved > 0 else "trends.down", language, **_from_to(line, found))
    elif line.ends:
        words = say("trends.same", language, value=shown(found.metric, line.ends[1]))
    else:
        words = say("trends.few", language)
    model = paragraphs([say("model.alone", language, model=line.model)], "gf-soft") if line.model and line.site else ""
    return (
        f'<section class="gf-card {state}"><div class="gf-head"><b>{escape(_place(line, language))}</b>{sign}</div>'
        f"{paragraphs([f'{words[:1].upper()}{words[1:]}.'], 'gf-why')}{_picture(line, found, words)}{model}</section>"
    )


def _picture(line: Line, found: Trends, words: str) -> str:
    if not line.values:
        return ""
    spec = CATALOGUE.get(found.metric)
    top = 1.0 if spec is not None and spec.unit == "fraction" else max(*line.values, found.limit or 0.0, 1e-9) * 1.1
    first = line.points[0][0]
    width = max((found.now - first).total_seconds(), 1.0)

    def at(time: datetime, value: float) -> str:
        return f"{(time - first).total_seconds() / width * 100:.2f} {100 - min(value / top, 1.0) * 100:.2f}"

    measured = [(time, value) for time, value in line.points if value is not None]
    dots = "".join(f"M{at(*point)}h.01" for point in measured)
    limit = ""
    if found.limit is not None and found.limit <= top:
        limit = f'<path class="limit" d="M0 {100 - found.limit / top * 100:.2f}H100"/>'
    days = found.span_s > SPANS[0]
    ends = "".join(
        f"<span>{time:%Y-%m-%d}</span>" if days else f"<span>{moment(time)}</span>" for time in (first, found.now)
    )
    return (
        f'<div class="gf-line"><span style="top:0">{escape(shown(found.metric, top))}</span>'
        f'<span style="bottom:0">{escape(shown(found.metric, 0.0))}</span>'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{escape(words)}">'
        f'{limit}<path d="{_joined(measured, at)}"/><path class="dots" d="{dots}"/></svg></div>'
        f'<div class="gf-ends">{ends}</div>'
    )


def _joined(measured: list[tuple[datetime, float]], at: Callable[[datetime, float], str]) -> str:
    """A path through what was measured, broken where nothing was for long."""
    distances = [(later[0] - earlier[0]).total_seconds() for earlier, later in pairwise(measured)]
    longest = _GAP * median(distances) if distances else 0.0
    starts = [True, *(distance > longest for distance in distances)]
    return "".join(f"{'M' if start else 'L'}{at(*point)}" for start, point in zip(starts, measured, strict=True))
