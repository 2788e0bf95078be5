"""Average precision class by class, and by size of the object.

Each plot is two functions: one makes the data and can be tested, one draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from guardianflow.plots.palette import LAYOUT, ORANGE, SERIES, shown_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["ScoreBars", "ScoreRow", "class_scores", "plot_scores", "size_scores"]

_MANY = 20
_SIZES = {"small": "up to 32² px", "medium": "32² to 96² px", "large": "over 96² px"}


class ScoreRow(NamedTuple):
    """Average precision of a class or a size, at IoU 0.50 and over 0.50–0.95; ``None`` where nothing is labelled."""

    name: str
    boxes: int
    ap50: float | None
    ap50_95: float | None


@dataclass(frozen=True)
class ScoreBars:
    """Average precision by label, the lowest bar first; ``None`` where nothing is labelled."""

    labels: tuple[str, ...]
    ap50: tuple[float | None, ...]
    ap50_95: tuple[float | None, ...]


def class_scores(rows: Sequence[ScoreRow]) -> ScoreBars:
    """The bars of some classes, the weakest first; a label carries the number of labelled boxes."""
    ordered = sorted(rows, key=lambda row: -1.0 if row.ap50_95 is None else row.ap50_95)
    return _bars([row._replace(name=shown_name(row.name)) for row in ordered])


def size_scores(rows: Sequence[ScoreRow]) -> ScoreBars:
    """The bars of an evaluation's size buckets, small ones at the top."""
    return _bars([row._replace(name=f"{row.name}, {_SIZES.get(row.name, '')}") for row in reversed(rows)])


def _bars(rows: Sequence[ScoreRow]) -> ScoreBars:
    return ScoreBars(
        labels=tuple(f"{row.name} ({row.boxes:,} boxes)" for row in rows),
        ap50=tuple(row.ap50 for row in rows),
        ap50_95=tuple(row.ap50_95 for row in rows),
    )


def plot_scores(bars: ScoreBars) -> Figure:
    """One pair of horizontal bars a label, the best class at the top."""
    from plotly.graph_objects import Bar, Figure

    figure = Figure()
    rows = list(range(len(bars.labels)))
    rows_high = (56 if len(rows) <= _MANY else 30) * max(len(rows), 1)
    for name, values, colour in (("AP50-95", bars.ap50_95, ORANGE), ("AP50", bars.ap50, SERIES[0])):
        texts = ["not labelled" if value is None else f"{value:.2f}" for value in values]
        figure.add_trace(
            Bar(y=rows, x=values, name=name, orientation="h", marker_color=colour, text=texts,
                textposition="outside", cliponaxis=False, hovertemplate="%{x:.3f}<extra></extra>")
        )  # fmt: skip
    figure.update_xaxes(range=[0, 1.08], title_text="average precision (0–1)", tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(tickvals=rows, ticktext=bars.labels, automargin=True, ticklabelstandoff=8)
    figure.update_layout(**LAYOUT)
    figure.update_layout(
        height=130 + rows_high, bargap=0.3, margin={**LAYOUT["margin"], "t": 56, "b": 64},
        legend={"orientation": "h", "x": 0, "y": 1 + 6 / rows_high, "yanchor": "bottom", "traceorder": "reversed"},
    )  # fmt: skip
    return figure
