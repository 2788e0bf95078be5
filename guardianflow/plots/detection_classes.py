"""Average precision class by class and by size of the object, and how it changed from one model to another.

Each plot is two functions: one makes the data and can be tested, one draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import GREY, ORANGE
from guardianflow.plots.themes import Theme, shown_name, theme_named

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "ClassChanges", "ClassScores", "SizeBars", "class_changes", "class_scores", "plot_class_changes",
    "plot_class_scores", "plot_sizes", "size_bars",
]  # fmt: skip

_MANY = 20
_Values = tuple[float | None, ...]


@dataclass(frozen=True)
class ClassScores:
    """Average precision by class, the weakest first; ``None`` where nothing is labelled."""

    labels: tuple[str, ...]
    ap50: _Values
    ap50_95: _Values


def class_scores(per_class: Sequence[Mapping[str, Any]]) -> ClassScores:
    """The bars of an evaluation's classes; a label carries the number of labelled boxes."""
    rows = sorted(per_class, key=lambda row: -1.0 if row["ap50_95"] is None else row["ap50_95"])
    return ClassScores(
        labels=tuple(f"{shown_name(row['name'])} ({row['boxes']:,} boxes)" for row in rows),
        ap50=tuple(row["ap50"] for row in rows),
        ap50_95=tuple(row["ap50_95"] for row in rows),
    )


def plot_class_scores(scores: ClassScores, *, theme: str = "light") -> Figure:
    """One pair of horizontal bars a class, the best at the top."""
    return _pair_bars(scores.labels, scores.ap50, scores.ap50_95, theme_named(theme))


@dataclass(frozen=True)
class SizeBars:
    """Average precision by size of the object in the original image; ``None`` where nothing is labelled."""

    labels: tuple[str, ...]
    ap50: _Values
    ap50_95: _Values


def size_bars(by_size: Mapping[str, Mapping[str, Any]]) -> SizeBars:
    """The bars of an evaluation's size buckets, small ones at the top."""
    bounds = {"small": "up to 32² px", "medium": "32² to 96² px", "large": "over 96² px"}
    rows = list(reversed(list(by_size.values())))
    return SizeBars(
        labels=tuple(f"{row['name']}, {bounds.get(row['name'], '')} ({row['boxes']:,} boxes)" for row in rows),
        ap50=tuple(row["ap50"] for row in rows),
        ap50_95=tuple(row["ap50_95"] for row in rows),
    )


def plot_sizes(bars: SizeBars, *, theme: str = "light") -> Figure:
    """One pair of horizontal bars a size."""
    return _pair_bars(bars.labels, bars.ap50, bars.ap50_95, theme_named(theme))


@dataclass(frozen=True)
class ClassChanges:
    """Change of AP50-95 by class with its interval, the largest loss first.

    Attributes:
        labels: Class names; classes without labelled boxes are left out.
        change: After minus before.
        low: Lower ends of the intervals.
        high: Upper ends.
        kind: ``"worse"``, ``"better"`` (beyond chance), or ``"may be chance"``.
    """

    labels: tuple[str, ...]
    change: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    kind: tuple[str, ...]


def class_changes(per_class: Sequence[Mapping[str, Any]]) -> ClassChanges:
    """The rows of a damage report or a paired comparison (its key is ``difference`` instead of ``change``)."""
    rows = [(row, row.get("change", row.get("difference"))) for row in per_class]
    there = [(row, change) for row, change in rows if change is not None and row["low"] is not None]
    there.sort(key=lambda pair: pair[1])
    return ClassChanges(
        labels=tuple(shown_name(row["name"]) for row, _ in there),
        change=tuple(change for _, change in there),
        low=tuple(row["low"] for row, _ in there),
        high=tuple(row["high"] for row, _ in there),
        kind=tuple("worse" if row["high"] < 0 else "better" if row["low"] > 0 else "may be chance" for row, _ in there),
    )


def plot_class_changes(changes: ClassChanges, *, theme: str = "light") -> Figure:
    """A dot with a whisker a class; one that doesn't touch zero is more than chance."""
    from plotly.graph_objects import Figure, Scatter

    look = theme_named(theme)
    figure = Figure()
    rows_high = 34 * max(len(changes.labels), 2)
    looks = {
        "worse": (look.series[3], "diamond"),
        "may be chance": (GREY, "circle"),
        "better": (look.series[0], "square"),
    }
    for kind, (colour, symbol) in looks.items():
        rows = [place for place, own in enumerate(changes.kind) if own == kind]
        if not rows:
            continue
        figure.add_trace(
            Scatter(
                x=[changes.change[row] for row in rows], y=rows, name=kind, mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 11},
                error_x={
                    "array": [changes.high[row] - changes.change[row] for row in rows],
                    "arrayminus": [changes.change[row] - changes.low[row] for row in rows],
                    "color": colour, "thickness": 2, "width": 6,
                },
                hovertemplate="%{x:+.3f}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_vline(0, line={"color": look.ink, "width": 1})
    figure.update_xaxes(title_text="change of AP50-95, with its interval", zeroline=False)
    count = len(changes.labels)
    figure.update_yaxes(
        tickvals=list(range(count)), ticktext=changes.labels, range=[count - 0.5, -0.5], automargin=True,
        ticklabelstandoff=8,
    )  # fmt: skip
    figure.update_layout(**look.layout)
    figure.update_layout(
        height=130 + rows_high, showlegend=True, margin={**look.layout["margin"], "t": 56, "b": 64},
        legend={"orientation": "h", "x": 0, "y": 1 + 6 / rows_high, "yanchor": "bottom"},
    )  # fmt: skip
    return figure


def _pair_bars(labels: Sequence[str], ap50: _Values, ap50_95: _Values, look: Theme) -> Figure:
    from plotly.graph_objects import Bar, Figure

    figure = Figure()
    rows = list(range(len(labels)))
    rows_high = (56 if len(rows) <= _MANY else 30) * max(len(rows), 1)
    for name, values, colour in (("AP50-95", ap50_95, ORANGE), ("AP50", ap50, look.series[0])):
        texts = ["not labelled" if value is None else f"{value:.2f}" for value in values]
        figure.add_trace(
            Bar(y=rows, x=values, name=name, orientation="h", marker_color=colour, text=texts,
                textposition="outside", cliponaxis=False, hovertemplate="%{x:.3f}<extra></extra>")
        )  # fmt: skip
    figure.update_xaxes(range=[0, 1.08], title_text="average precision (0–1)", tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(tickvals=rows, ticktext=labels, automargin=True, ticklabelstandoff=8)
    figure.update_layout(**look.layout)
    figure.update_layout(
        height=130 + rows_high, bargap=0.3, margin={**look.layout["margin"], "t": 56, "b": 64},
        legend={"orientation": "h", "x": 0, "y": 1 + 6 / rows_high, "yanchor": "bottom", "traceorder": "reversed"},
    )  # fmt: skip
    return figure
