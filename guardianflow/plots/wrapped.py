"""What a wrapped script measured, and what it took of the machine.

Each plot is two functions: one makes the data and can be tested, one draws it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import LAYOUT, SERIES, shown_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "MetricPanel",
    "MetricPanels",
    "ResourceCurves",
    "metric_panels",
    "plot_metrics",
    "plot_resources",
    "resource_curves",
]

_COLUMNS = 3
_PANEL_HEIGHT = 190
_FEW_POINTS = 30
_MOST_POINTS = 2_000
_DECADES = 1_000.0
# The best-known first: losses, then quality, then the rest by name. Of one kind validation's before training's.
_KNOWN = (
    r"(^|[ ./_-])loss$", r"map_?50-95|map50_95", r"map_?50", r"map", r"acc", r"hota|mota|idf1", r"f1", r"prec|(^|/)p$",
    r"recall|(^|/)r$", r"auc", r"iou|dice", r"rmse|mae|mse", r"loss", r"reward|score", r"(^|[ ./_-])lr|learning.rate",
)  # fmt: skip
_FIGURES = (
    ("CPU, % of one core", "CPU", ("cpu_util",)),
    ("memory, MB", "memory", ("rss_mb",)),
    ("GPU, %", "GPU", ("gpu_util",)),
    ("GPU memory, MB", "GPU memory", ("gpu_mem_mb",)),
)


@dataclass(frozen=True)
class MetricPanel:
    """One metric over its steps.

    Attributes:
        name: The metric.
        steps: In rising order, each once.
        values: By step; ``None`` where the value is nan or infinite, which leaves a gap.
        log: Whether a logarithmic axis serves it: all values positive, over more than three decades.
        gaps: How many values are no number.
    """

    name: str
    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    log: bool
    gaps: int


@dataclass(frozen=True)
class MetricPanels:
    """The metrics that are shown, and the names of those that are not."""

    panels: tuple[MetricPanel, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class ResourceCurves:
    """What was taken of the machine over time.

    Attributes:
        seconds: Since the start.
        series: Axis title → (short title, value by second); only what was measured at all.
    """

    seconds: tuple[float, ...]
    series: Mapping[str, tuple[str, tuple[float | None, ...]]]


def metric_panels(histories: Mapping[str, Sequence[tuple[int, float]]], *, most: int = 12) -> MetricPanels:
    """The panels of a run's histories: the best-known metrics first, at most ``most``.

    Of several values at one step the last counts; a curve of more than 2,000 points is thinned evenly.

    Args:
        histories: Metric → (step, value) in the order measured.
        most: Panels at the most.
    """
    names = sorted((name for name, points in histories.items() if len(points)), key=_rank)
    return MetricPanels(
        panels=tuple(_panel(name, histories[name]) for name in names[:most]), left_out=tuple(names[most:])
    )


def plot_metrics(histories: Mapping[str, Sequence[tuple[int, float]]], *, most: int = 12) -> Figure:
    """Small panels, one a metric, each with its own axes and its last value.

    Args:
        histories: See :func:`metric_panels`.
        most: Panels at the most; how many more there are stands below.
    """
    from plotly.graph_objects import Figure
    from plotly.subplots import make_subplots

    shown = metric_panels(histories, most=most)
    if not shown.panels:
        return _empty(Figure(), "No metric was found in what the script printed or wrote.")
    columns = min(_COLUMNS, len(shown.panels))
    rows = -(-len(shown.panels) // columns)
    figure: Figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=[_title(panel) for panel in shown.panels],
        horizontal_spacing=0.24 / columns if columns > 1 else 0, vertical_spacing=min(0.34 / rows, 0.2),
    )  # fmt: skip
    for number, panel in enumerate(shown.panels):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        figure.add_trace(_line(panel, SERIES[0]), **place)
        _set_axes(figure, panel, place, lowest=number >= len(shown.panels) - columns)
    figure.update_layout(**LAYOUT)
    height = 126 + _PANEL_HEIGHT * rows
    figure.update_layout(height=height, showlegend=False, margin={"l": 56, "r": 24, "t": 60, "b": 78})
    figure.update_annotations(font_size=13, xanchor="center")
    figure.update_yaxes(automargin=True, nticks=5)
    if shown.left_out:
        figure.add_annotation(
            text=_left_out(shown.left_out), x=0, y=0, xref="paper", yref="paper", yshift=-62, xanchor="left",
            yanchor="bottom", showarrow=False, font={"size": 12},
        )  # fmt: skip
    return figure


def resource_curves(samples: Sequence[Mapping[str, float]]) -> ResourceCurves:
    """The curves of a run's samples.

    Args:
        samples: Rows with ``seconds``, ``cpu_util`` (percent, 100 is one core), ``rss_mb`` (MB) and, where there is
            one, ``gpu_util`` (percent) and ``gpu_mem_mb`` (MB). What a row lacks is a gap.
    """
    rows = sorted((row for row in samples if "seconds" in row), key=lambda row: row["seconds"])
    found: dict[str, tuple[str, tuple[float | None, ...]]] = {}
    for title, short, keys in _FIGURES:
        values = tuple(_number(next((row[key] for key in keys if key in row), None)) for row in rows)
        if any(value is not None for value in values):
            found[title] = (short, values)
    return ResourceCurves(seconds=tuple(float(row["seconds"]) for row in rows), series=found)


def plot_resources(samples: Sequence[Mapping[str, float]]) -> Figure:
    """CPU, memory and GPU over the seconds, one above the other.

    Args:
        samples: See :func:`resource_curves`.
    """
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    curves = resource_curves(samples)
    if not curves.series:
        return _empty(Figure(), "It ended before the machine could be measured.")
    rows = len(curves.series)
    titles = [
        f"{title} · most {max(v for v in values if v is not None):,.0f}" for title, (_, values) in curves.series.items()
    ]
    figure: Figure = make_subplots(
        rows=rows, cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.26 / rows if rows > 1 else 0
    )
    mode = "lines+markers" if len(curves.seconds) <= _FEW_POINTS else "lines"
    for row, (short, values) in enumerate(curves.series.values(), start=1):
        colour = SERIES[(row - 1) % len(SERIES)]
        trace = Scatter(
            x=curves.seconds, y=values, name=short, mode=mode, line={"color": colour, "width": 2}, marker={"size": 5},
            fill="tozeroy", fillcolor=_faint(colour),
            hovertemplate=f"%{{y:,.0f}} at %{{x:.1f}} s<extra>{short}</extra>",
        )  # fmt: skip
        figure.add_trace(trace, row=row, col=1)
    figure.update_layout(**LAYOUT)
    figure.update_layout(height=116 + 165 * rows, showlegend=False, margin={"l": 64, "r": 24, "t": 60, "b": 52})
    figure.update_annotations(font_size=13, x=0, xanchor="left")
    figure.update_yaxes(rangemode="tozero", nticks=5, automargin=True, separatethousands=True)
    figure.update_xaxes(title={"text": "seconds since the start", "font": {"size": 12}}, row=rows, col=1)
    return figure


def _rank(name: str) -> tuple[int, int, str]:
    lower = name.lower()
    kind = next((place for place, known in enumerate(_KNOWN) if re.search(known, lower)), len(_KNOWN))
    return kind, 0 if "val" in lower else 1, lower


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _panel(name: str, points: Sequence[tuple[int, float]]) -> MetricPanel:
    by_step = dict(sorted({int(step): float(value) for step, value in points}.items()))
    every = -(-len(by_step) // _MOST_POINTS)
    steps = list(by_step)
    kept = steps if every < 2 else [*steps[:-1:every], steps[-1]]
    values = tuple(_number(by_step[step]) for step in kept)
    known = [value for value in values if value is not None]
    log = bool(known) and min(known) > 0 and max(known) / min(known) > _DECADES
    return MetricPanel(name, tuple(kept), values, log, sum(value is None for value in values))


def _decades(panel: MetricPanel) -> int:
    """Decades between two lines of a logarithmic axis, so that there are about five."""
    known = [value for value in panel.values if value is not None]
    return max(1, round(math.log10(max(known) / min(known)) / 5))


def _title(panel: MetricPanel) -> str:
    if panel.gaps == len(panel.values):
        return f"{shown_name(panel.name)}  <b>never a number</b>"
    last = panel.values[-1]
    return f"{shown_name(panel.name)}  <b>{'nan' if last is None else format(last, '.4g')}</b>"


def _line(panel: MetricPanel, colour: str) -> Any:
    from plotly.graph_objects import Scatter

    mode = "lines+markers" if len(panel.steps) <= _FEW_POINTS or panel.gaps else "lines"
    return Scatter(
        x=panel.steps, y=panel.values, mode=mode, name=shown_name(panel.name), connectgaps=False,
        line={"color": colour, "width": 2}, marker={"size": 5 if len(panel.steps) <= _FEW_POINTS else 3},
        hovertemplate="%{y:.5g} at step %{x:,}<extra></extra>",
    )  # fmt: skip


def _set_axes(figure: Any, panel: MetricPanel, place: dict[str, int], *, lowest: bool) -> None:
    if panel.log:
        figure.update_yaxes(type="log", exponentformat="e", dtick=_decades(panel), **place)
    if len(panel.steps) == 1:
        figure.update_xaxes(tickvals=list(panel.steps), **place)
    elif panel.steps[-1] - panel.steps[0] < 8:
        figure.update_xaxes(dtick=1, **place)  # an epoch of 1.5 is none
    if lowest:
        figure.update_xaxes(title={"text": "step", "standoff": 6, "font": {"size": 12}}, **place)


def _left_out(names: Sequence[str]) -> str:
    some = ", ".join(shown_name(name) for name in names[:4]) + (" …" if len(names) > 4 else "")
    return f"{len(names)} more {'metric is' if len(names) == 1 else 'metrics are'} in the tracking: {some}"


def _empty(figure: Any, text: str) -> Any:
    figure.update_layout(**LAYOUT)
    figure.update_layout(height=140)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14})
    return figure


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
