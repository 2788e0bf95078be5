"""What each class won or lost from one model to another, with the interval that chance explains.

The rows are made in :mod:`guardianflow.plots.quantization` and :mod:`guardianflow.plots.comparison`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardianflow.plots.palette import GREEN, GREY, LAYOUT, LEGEND, VERMILION, title

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["ClassChange", "plot_class_changes"]


@dataclass(frozen=True)
class ClassChange:
    """What one class won or lost.

    Attributes:
        name: Of the class, with its number of labelled boxes.
        before: Its figure by the first model.
        after: By the second.
        change: Second minus first.
        low: Lower end of its bootstrap interval.
        high: Upper end.
        collapsed: Whether the class is lost.
    """

    name: str
    before: float
    after: float
    change: float
    low: float
    high: float
    collapsed: bool = False

    @property
    def kind(self) -> str:
        """``lost``, ``worse`` or ``better`` (beyond chance), or ``same``."""
        if self.collapsed:
            return "lost"
        if self.high < 0:
            return "worse"
        return "better" if self.low > 0 else "same"


def plot_class_changes(changes: Sequence[ClassChange], *, what: str = "AP50-95") -> Figure:
    """A dot and its interval a class, the first on top; what crosses the line may be chance.

    Args:
        changes: A row a class.
        what: Which figure it is.
    """
    from plotly.graph_objects import Figure, Scatter

    said = {
        "lost": ("lost", VERMILION, "x"),
        "worse": ("worse, beyond chance", VERMILION, "diamond"),
        "same": ("no difference that chance can't explain", GREY, "circle"),
        "better": ("better, beyond chance", GREEN, "diamond"),
    }
    figure = Figure()
    placed = list(enumerate(reversed(changes)))  # by number: two names may look alike once shortened
    for kind, (text, colour, symbol) in said.items():
        rows = [(place, row) for place, row in placed if row.kind == kind]
        if not rows:
            continue
        figure.add_trace(
            Scatter(
                x=[row.change for _, row in rows], y=[place for place, _ in rows], mode="markers", name=text,
                marker={"color": colour, "size": 13, "symbol": symbol, "line": {"color": "white", "width": 1}},
                error_x={
                    "type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 6,
                    "array": [row.high - row.change for _, row in rows],
                    "arrayminus": [row.change - row.low for _, row in rows],
                },
                customdata=[[row.before, row.after, row.low, row.high, row.name] for _, row in rows],
                hovertemplate=f"%{{customdata[4]}}<br>{what} "
                "%{customdata[0]:.3f} → %{customdata[1]:.3f} (%{x:+.4f})"
                "<br>interval %{customdata[2]:+.4f} to %{customdata[3]:+.4f}<extra></extra>",
            )
        )  # fmt: skip
    ends = [abs(value) for row in changes for value in (row.low, row.high, row.change)]
    reach = 1.2 * max([0.005, *(end for end in ends if end < 1)])  # 1: nothing is known, which needs no room
    for place, row in placed:
        figure.add_annotation(
            x=1.0, xref="paper", y=place, text=f"{row.before:.3f} → {row.after:.3f}", showarrow=False,
            xanchor="left", xshift=10, font={"size": 12},
        )  # fmt: skip
    figure.add_vline(0, line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_layout(
        **{**LAYOUT, "margin": {**LAYOUT["margin"], "r": 120}},
        title=title(f"What each class won or lost ({what})"),
        height=170 + 46 * max(len(changes), 1), legend=LEGEND,
    )  # fmt: skip
    figure.update_xaxes(range=[-reach, reach], tickformat="+.3f", zeroline=False, title_text=f"change of {what}")
    figure.update_yaxes(
        automargin=True, ticksuffix="  ", tickvals=[place for place, _ in placed],
        ticktext=[row.name for _, row in placed], range=[-0.6, len(placed) - 0.4],
    )  # fmt: skip
    return figure
