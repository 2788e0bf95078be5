"""Who was champion when: a time line made from a model's ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import GREY, INK, LAYOUT, SERIES, shown_text, title

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["ChampionSpan", "champion_spans", "plot_champions"]

_MARKERS = {
    "register": "circle-open",
    "promote": "triangle-up",
    "rollback": "triangle-left",
    "reject": "x",
    "delete": "x-thin",
}


_TOP_PX, _BOTTOM_PX = 64, 92  # room for the title; for two lines of dates and the legend


@dataclass(frozen=True)
class ChampionSpan:
    """A version's time in charge; ``end`` is ``None`` for the champion of now."""

    version: str
    start: datetime
    end: datetime | None


@dataclass(frozen=True)
class ChampionTimeline:
    """The spans in order of time, and the moves as (time, action, version, reason)."""

    spans: tuple[ChampionSpan, ...]
    moves: tuple[tuple[datetime, str, str, str], ...]


def champion_spans(history: Sequence[Mapping[str, Any]]) -> ChampionTimeline:
    """The time line of a ledger.

    Args:
        history: Events as plain dicts, in any order, each with ``gen``, ``time`` (ISO 8601),
            ``action``, ``version``, ``champion`` and ``reason``.
    """
    events = sorted(history, key=lambda event: event["gen"])
    spans: list[ChampionSpan] = []
    current: tuple[str, datetime] | None = None
    for event in events:
        when = datetime.fromisoformat(event["time"])
        champion = event["champion"]
        if current is not None and champion != current[0]:
            spans.append(ChampionSpan(current[0], current[1], when))
            current = None
        if champion is not None and current is None:
            current = (champion, when)
    if current is not None:
        spans.append(ChampionSpan(current[0], current[1], None))
    moves = tuple(
        (datetime.fromisoformat(event["time"]), event["action"], str(event["version"] or ""), event["reason"] or "")
        for event in events
    )
    return ChampionTimeline(tuple(spans), moves)


def plot_champions(timeline: ChampionTimeline, *, now: datetime | None = None) -> Figure:
    """One lane a version: a bar while it was in charge, a mark for every move."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    last = max((when for when, *_ in timeline.moves), default=datetime.now(UTC))
    first = min((when for when, *_ in timeline.moves), default=last)
    edge = max(now or last, last) + max((last - first) * 0.12, timedelta(seconds=5))
    versions = sorted({version for _, _, version, _ in timeline.moves if version}, key=lambda text: (len(text), text))
    lanes = {version: f"version {version}" for version in versions}
    for span in timeline.spans:
        colour = SERIES[versions.index(span.version) % len(SERIES)]
        figure.add_trace(
            Scatter(
                x=[span.start, span.end or edge],
                y=[lanes[span.version]] * 2,
                mode="lines",
                line={"color": colour, "width": 16},
                showlegend=False,
                hoverinfo="skip",
            )
        )
    for action in dict.fromkeys(action for _, action, _, _ in timeline.moves):
        rows = [move for move in timeline.moves if move[1] == action and move[2]]
        figure.add_trace(
            Scatter(
                x=[when for when, *_ in rows],
                y=[lanes[version] for _, _, version, _ in rows],
                mode="markers",
                name=action,
                marker={
                    "symbol": _MARKERS.get(action, "circle"),
                    "size": 13,
                    "color": INK,
                    "line": {"width": 2, "color": "white" if not _MARKERS.get(action, "").endswith("open") else GREY},
                },
                text=[shown_text(reason) or "no reason given" for *_, reason in rows],
                hovertemplate="%{x|%Y-%m-%d %H:%M:%S}<br>" + action + " %{y}<br>%{text}<extra></extra>",
            )
        )
    plot_px = 46 * max(len(versions), 1) + 24
    figure.update_layout(
        LAYOUT,
        title=title("Who was in charge when (the bar is the champion)"),
        height=plot_px + _TOP_PX + _BOTTOM_PX,
        margin={"l": 56, "r": 24, "t": _TOP_PX, "b": _BOTTOM_PX},
        legend={"orientation": "h", "x": 0, "y": -48 / plot_px, "yanchor": "top"},
    )
    figure.update_yaxes(categoryorder="array", categoryarray=[lanes[version] for version in versions], automargin=True)
    figure.update_xaxes(range=[first - (edge - first) * 0.04, edge])
    return figure
