"""How well objects were followed: HOTA over its thresholds, and who loses what.

Each plot is two functions: one makes the data and can be tested, one draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import BLUE, GREEN, LAYOUT, ORANGE, VERMILION, shown_text, title

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["HotaCurves", "LossBars", "hota_curves", "loss_bars", "plot_hota_curves", "plot_loss_bars"]

_LINES = (("hota", "HOTA", BLUE, 3.0), ("deta", "DetA: found", ORANGE, 2.0), ("assa", "AssA: kept", GREEN, 2.0))


@dataclass(frozen=True)
class HotaCurves:
    """HOTA and its parts over the localisation threshold.

    Attributes:
        alpha: Thresholds (IoU).
        series: Label with the mean → value by threshold, fractions.
    """

    alpha: tuple[float, ...]
    series: Mapping[str, tuple[float, ...]]


def hota_curves(hota: Mapping[str, Any]) -> HotaCurves:
    """The curves of the ``hota`` part of a tracking result's dict."""
    by_alpha = hota["by_alpha"]
    return HotaCurves(
        alpha=tuple(float(value) for value in by_alpha["alpha"]),
        series={f"{name} ({hota[key]:.2f})": tuple(float(x) for x in by_alpha[key]) for key, name, *_ in _LINES},
    )


def plot_hota_curves(curves: HotaCurves) -> Figure:
    """Three curves; the mean of each stands in the legend."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for (label, values), (_, _, colour, width) in zip(curves.series.items(), _LINES, strict=True):
        trace = Scatter(x=curves.alpha, y=values, name=label, mode="lines", line={"color": colour, "width": width})
        figure.add_trace(trace)
    figure.update_layout(
        **LAYOUT,
        title=title("How exactly objects were found and kept"),
        height=380,
        legend={"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
    )
    figure.update_xaxes(title_text="overlap (IoU) that a match needs", range=[0, 1])
    figure.update_yaxes(range=[0, 1.02])
    return figure


@dataclass(frozen=True)
class LossBars:
    """Parts of a HOTA of 1, by tracker; the best tracker first.

    Attributes:
        trackers: Names.
        reached: HOTA.
        detector: What the detector's boxes cost; 0 where the tracker did better with them.
        tracker: What the tracker loses.
        sentences: The split in words.
    """

    trackers: tuple[str, ...]
    reached: tuple[float, ...]
    detector: tuple[float, ...]
    tracker: tuple[float, ...]
    sentences: tuple[str, ...]


def loss_bars(losses: Sequence[Mapping[str, Any]]) -> LossBars:
    """The bars of some splits (``HotaLoss.to_dict()``)."""
    rows = sorted(losses, key=lambda row: -float(row["hota"]))
    detector = [max(0.0, float(row["detector_loss"])) for row in rows]
    return LossBars(
        trackers=tuple(shown_text(str(row["tracker"])) for row in rows),
        reached=tuple(float(row["hota"]) for row in rows),
        detector=tuple(detector),
        tracker=tuple(max(0.0, 1 - float(row["hota"]) - part) for row, part in zip(rows, detector, strict=True)),
        sentences=tuple(str(row["sentence"]) for row in rows),
    )


def plot_loss_bars(bars: LossBars) -> Figure:
    """One bar a tracker from 0 to 1: what is reached, what the detector and what the tracker loses."""
    from plotly.graph_objects import Bar, Figure

    figure = Figure()
    parts = (
        ("HOTA reached", bars.reached, BLUE), ("lost by the detector", bars.detector, ORANGE),
        ("lost by the tracker", bars.tracker, VERMILION),
    )  # fmt: skip
    for name, values, colour in parts:
        figure.add_trace(
            Bar(
                y=bars.trackers, x=values, name=name, orientation="h", marker_color=colour,
                text=[f"{value:.2f}" if value >= 0.04 else "" for value in values], textposition="inside",
                insidetextanchor="middle", textangle=0, hovertext=[shown_text(text) for text in bars.sentences],
            )
        )  # fmt: skip
    figure.update_layout(
        **LAYOUT,
        barmode="stack",
        title=title("What keeps tracking from being perfect"),
        height=170 + 46 * max(len(bars.trackers), 1),
        bargap=0.35,
        legend={"orientation": "h", "x": 0, "y": -0.05, "yanchor": "top", "traceorder": "normal"},
    )
    figure.update_xaxes(range=[0, 1], showticklabels=False)
    figure.update_yaxes(automargin=True, ticksuffix="  ", autorange="reversed")
    return figure
