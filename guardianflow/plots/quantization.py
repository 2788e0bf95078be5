"""A quantization as pictures: what it brought and what it cost, beside the original.

Each plot is two functions: one makes the data and can be tested, one draws it. The rows are those of
:meth:`guardianflow.runners.quantization.result.QuantizationResult.to_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from guardianflow.plots.class_changes import ClassChange
from guardianflow.plots.palette import BLUE, GREY, INK, LAYOUT, LEGEND, ORANGE, VERMILION, shown_name, title

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "BoxChanges",
    "CostBars",
    "TradeoffPoint",
    "VariantRow",
    "box_changes",
    "class_changes",
    "cost_bars",
    "plot_box_changes",
    "plot_costs",
    "plot_tradeoff",
    "tradeoff_points",
]

Row = Mapping[str, Any]

_COLOURS = {"peer": "#B7BCC6", "original": GREY, "plain": BLUE, "quantized": ORANGE}
_SYMBOLS = {"original": "circle", "plain": "square", "quantized": "diamond"}
_SAID = {"original": "original", "plain": "fp32 on the same runtime", "quantized": "quantized"}


class VariantRow(TypedDict):
    """One way to run the model as plain JSON: its latency, and its accuracy against the original's."""

    role: str
    label: str
    map50_95: float
    change: float
    change_low: float
    change_high: float
    latency_ms_p50: float | None
    latency_ms_low: float | None
    latency_ms_high: float | None
    size_mb: float


@dataclass(frozen=True)
class TradeoffPoint:
    """One way to run the model.

    Attributes:
        role: ``original``, ``plain`` (fp32 on the runtime of the quantized model) or ``quantized``.
        label: Backend and executed precision.
        latency_ms: Median latency of one image.
        latency: Confidence interval of that median, ms; ``None`` where there were too few images for one.
        change: mAP50-95 minus the original's.
        interval: Bootstrap interval of the change.
        quality: mAP50-95.
    """

    role: str
    label: str
    latency_ms: float
    latency: tuple[float, float] | None
    change: float
    interval: tuple[float, float]
    quality: float


@dataclass(frozen=True)
class CostBars:
    """Size, latency and speed; one entry a bar: (role, label, figure).

    Attributes:
        size_mb: Of what is loaded, MB.
        latency_ms: Median of one image, ms.
        images_per_s: From file to boxes, with the least and the most of the rounds behind the figure.
    """

    size_mb: tuple[tuple[str, str, float], ...]
    latency_ms: tuple[tuple[str, str, float], ...]
    images_per_s: tuple[tuple[str, str, float, float, float], ...]


@dataclass(frozen=True)
class BoxChanges:
    """What became of the boxes.

    Attributes:
        both: Boxes that both models show.
        lost: Only the original.
        new: Only the quantized model.
        confidence: From which boxes count.
        shift: Mean shift of the confidence of the same boxes; ``None`` without one.
        low: The shift that 5% of the boxes lie below.
        high: The shift that 5% of the boxes lie above.
    """

    both: int
    lost: int
    new: int
    confidence: float
    shift: float | None
    low: float | None
    high: float | None


def tradeoff_points(comparison: Row) -> list[TradeoffPoint]:
    """The ways to run the model whose latency was measured."""
    return [
        TradeoffPoint(
            role=row["role"],
            label=row["label"],
            latency_ms=row["latency_ms_p50"],
            latency=None if row["latency_ms_low"] is None else (row["latency_ms_low"], row["latency_ms_high"]),
            change=row["change"],
            interval=(row["change_low"], row["change_high"]),
            quality=row["map50_95"],
        )
        for row in comparison.get("variants", ())
        if row["latency_ms_p50"] is not None
    ]


def plot_tradeoff(points: Sequence[TradeoffPoint]) -> Figure:
    """Change of accuracy against latency; left is quicker, and a bar that crosses the line may be chance."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    figure.add_hline(0, line={"color": GREY, "dash": "dash", "width": 1})
    for point in points:
        low, high = point.interval
        figure.add_trace(
            Scatter(
                x=[point.latency_ms], y=[point.change], name=f"{point.label} ({_SAID[point.role]})", mode="markers",
                marker={"color": _COLOURS[point.role], "size": 17, "symbol": _SYMBOLS[point.role],
                        "line": {"color": "white", "width": 1.5}},
                error_y=_bar(point.change - low, high - point.change, _COLOURS[point.role]),
                error_x=None if point.latency is None else _bar(
                    point.latency_ms - point.latency[0], point.latency[1] - point.latency_ms, _COLOURS[point.role]
                ),
                cliponaxis=False,
                hovertemplate=f"{point.label}<br>%{{x:.1f}} ms · mAP50-95 {point.quality:.3f} (%{{y:+.4f}})"
                f"<br>interval {low:+.4f} to {high:+.4f}<extra></extra>",
            )
        )  # fmt: skip
        figure.add_annotation(
            x=point.latency_ms, y=point.change, text=f"<b>{point.label}</b><br>{point.latency_ms:.1f} ms · "
            f"{point.quality:.3f}", showarrow=False, xanchor="left", align="left", xshift=14,
            yshift=-24 if point.role == "plain" else 24,
            font={"size": 12},
        )  # fmt: skip
    reach = max((abs(value) for point in points for value in (*point.interval, point.change)), default=0.0)
    edge = 1.35 * max((point.latency_ms for point in points), default=1.0)
    figure.update_layout(
        **LAYOUT, title=title("What speed costs (left is quicker, up is more accurate)"), height=440, legend=LEGEND
    )
    figure.update_xaxes(title_text="median latency of one image, from file to boxes (ms)", range=[0, edge])
    span = 1.35 * max(reach, 0.01)
    figure.update_yaxes(
        title_text="mAP50-95, change against the original", range=[-span, span], tickformat="+.3f", zeroline=False
    )
    return figure


def class_changes(damage: Row) -> list[ClassChange]:
    """The classes with labels, the greatest loss first."""
    rows = [row for row in damage.get("per_class", ()) if row["change"] is not None]
    return [
        ClassChange(
            name=f"{shown_name(row['name'])} ({row['boxes']:,} boxes)",
            before=row["original"],
            after=row["quantized"],
            change=row["change"],
            low=row["change"] if row["low"] is None else row["low"],
            high=row["change"] if row["high"] is None else row["high"],
            collapsed=row["collapsed"],
        )
        for row in sorted(rows, key=lambda row: row["change"])
    ]


def cost_bars(comparison: Row) -> CostBars:
    """Size and latency of each way to run the model, and images a second of each contender."""
    variants = comparison.get("variants", ())
    return CostBars(
        size_mb=tuple((row["role"], row["label"], row["size_mb"]) for row in variants),
        latency_ms=tuple(
            (row["role"], row["label"], row["latency_ms_p50"]) for row in variants if row["latency_ms_p50"] is not None
        ),
        images_per_s=tuple(
            (row["role"], row["label"], row["images_per_s"], min(row["rounds"]), max(row["rounds"]))
            for row in comparison.get("speeds", ())
            if row["status"] == "ok"
        ),
    )


def plot_costs(bars: CostBars) -> Figure:
    """Three panels of bars: file size, latency, images a second; the quantized model stands out."""
    from plotly.graph_objects import Bar
    from plotly.subplots import make_subplots

    titles = ("Size (MB)", "One image (ms, median)", "Images a second")
    figure: Figure = make_subplots(rows=1, cols=3, subplot_titles=titles, horizontal_spacing=0.07)
    spans = {label: (least, most) for _, label, _, least, most in bars.images_per_s}
    panels = (bars.size_mb, bars.latency_ms, tuple(row[:3] for row in bars.images_per_s))
    for column, rows in enumerate(panels, start=1):
        error = None
        if column == 3:
            error = {
                "type": "data", "symmetric": False, "color": INK, "thickness": 1.3,
                "array": [spans[label][1] - value for _, label, value in rows],
                "arrayminus": [value - spans[label][0] for _, label, value in rows],
            }  # fmt: skip
        figure.add_trace(
            Bar(
                x=[_broken(label) for _, label, _ in rows], y=[value for _, _, value in rows], error_y=error,
                marker_color=[_COLOURS[role] for role, _, _ in rows], showlegend=False, width=0.62,
                hovertemplate="%{x}: %{y:.1f}<extra></extra>",
            ),
            row=1, col=column,
        )  # fmt: skip
        top = max((value for _, _, value in rows), default=1.0)
        top = max([top, *(most for _, most in spans.values())]) if column == 3 else top
        for _, label, value in rows:
            high = spans[label][1] if column == 3 else value
            figure.add_annotation(
                x=_broken(label), y=high, text=f"<b>{_short(value)}</b>", showarrow=False, yshift=12, row=1, col=column
            )  # fmt: skip
        figure.update_yaxes(range=[0, 1.2 * top], showticklabels=False, showgrid=False, row=1, col=column)
    figure.update_xaxes(tickfont={"size": 11}, tickangle=0)
    figure.update_layout(**{**LAYOUT, "margin": {"l": 24, "r": 24, "t": 64, "b": 72}}, height=380, bargap=0.35)
    return figure


def box_changes(damage: Row) -> BoxChanges:
    """How many boxes both models show, and how their confidence moved."""
    same, shift = damage["agreement"], damage["shift"]
    return BoxChanges(
        same["both"], same["lost"], same["new"], damage["confidence"], shift["mean"], shift["low"], shift["high"]
    )


def plot_box_changes(changes: BoxChanges) -> Figure:
    """At the left the boxes that both show, at the right how far their confidence moved."""
    from plotly.graph_objects import Bar, Scatter
    from plotly.subplots import make_subplots

    titles = (f"Boxes above a confidence of {changes.confidence:g}", "Confidence of the same boxes, shift")
    figure: Figure = make_subplots(rows=1, cols=2, subplot_titles=titles, column_widths=[0.55, 0.45])
    parts = (
        ("both show it", changes.both, BLUE),
        ("only the original", changes.lost, VERMILION),
        ("only the quantized model", changes.new, ORANGE),
    )
    for name, count, colour in parts:
        figure.add_trace(
            Bar(
                x=[count], y=["boxes"], orientation="h", name=f"{name}: {count:,}", marker_color=colour, width=0.5,
                hovertemplate=f"{name}: %{{x:,}}<extra></extra>",
            ),
            row=1, col=1,
        )  # fmt: skip
    if changes.shift is not None and changes.low is not None and changes.high is not None:
        figure.add_trace(
            Scatter(
                x=[changes.shift], y=["shift"], mode="markers", showlegend=False,
                marker={"color": ORANGE, "size": 15, "symbol": "diamond", "line": {"color": "white", "width": 1}},
                error_x=_bar(changes.shift - changes.low, changes.high - changes.shift, ORANGE),
                hovertemplate="mean %{x:+.3f}<extra></extra>",
            ),
            row=1, col=2,
        )  # fmt: skip
        for value, text in ((changes.low, "5 of 100 below"), (changes.shift, "mean"), (changes.high, "5 of 100 above")):
            figure.add_annotation(
                x=value, y="shift", text=f"{text}<br><b>{value:+.3f}</b>", showarrow=False,
                yshift=34 if text == "mean" else -34, row=1, col=2,
            )  # fmt: skip
        reach = 1.6 * max(abs(changes.low), abs(changes.high), 0.02)
        figure.update_xaxes(range=[-reach, reach], tickformat="+.2f", zeroline=True, row=1, col=2)
    figure.update_yaxes(showticklabels=False, showgrid=False)
    figure.update_layout(**LAYOUT, barmode="stack", height=300, legend={**LEGEND, "traceorder": "normal"})
    return figure


def _bar(minus: float, plus: float, colour: str) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "array": [max(plus, 0.0)], "arrayminus": [max(minus, 0.0)],
        "color": colour, "thickness": 2, "width": 7,
    }  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _broken(label: str) -> str:
    """Two lines: four bars share a third of the page."""
    words = label.split(", ") if ", " in label else label.split(" ", 1)
    return "<br>".join(words)
