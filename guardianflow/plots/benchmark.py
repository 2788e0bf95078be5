"""A benchmark as pictures: how long an image takes, where the time goes, what batches bring, what speed costs.

Each plot is two functions: one makes the data from the benchmark's rows and can be tested, one draws it.
A row is one cell of the matrix, as :meth:`guardianflow.runners.inference.result.InferenceResult.to_dict` has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.benchmark_rows import BenchmarkRow, measured
from guardianflow.plots.palette import (
    BLUE,
    GREEN,
    GREY,
    LAYOUT,
    LEGEND,
    ORANGE,
    PURPLE,
    SERIES,
    SKY,
    VERMILION,
    shown_text,
    title,
)  # fmt: skip

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "LatencySpread",
    "QualityPoint",
    "StageBar",
    "ThroughputLine",
    "latency_spreads",
    "pareto_front",
    "plot_latency",
    "plot_quality",
    "plot_stages",
    "plot_throughput",
    "quality_points",
    "stage_bars",
    "throughput_lines",
]


STAGES = {
    "decode": ("reading the image", SKY),
    "preprocess": ("letterbox", BLUE),
    "forward": ("forward pass", ORANGE),
    "postprocess": ("choosing boxes", GREEN),
    "tracking": ("tracking", PURPLE),
}
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


@dataclass(frozen=True)
class LatencySpread:
    """How long one image takes in one cell, from file to boxes.

    Attributes:
        label: Backend and executed precision.
        latencies_ms: Measured latencies, all or an even sample of them.
        p50: Median, ms.
        p95: 95th percentile, ms.
        p99: 99th percentile, ms.
        longest: Maximum, ms.
        interval: 95 % confidence interval of the median, ms.
    """

    label: str
    latencies_ms: tuple[float, ...]
    p50: float
    p95: float
    p99: float
    longest: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class StageBar:
    """Median time of each stage of one image, ms; stages that took none are left out."""

    label: str
    stages: Mapping[str, float]


@dataclass(frozen=True)
class ThroughputLine:
    """Images per second of one backend and precision over the batch sizes.

    Attributes:
        label: Backend and executed precision.
        batches: Ascending.
        fps: Images per second, by batch.
        noise: Relative spread of the repetitions, by batch.
    """

    label: str
    batches: tuple[int, ...]
    fps: tuple[float, ...]
    noise: tuple[float, ...]


@dataclass(frozen=True)
class QualityPoint:
    """One way to run the model: what it costs and what it finds.

    Attributes:
        label: Backend and executed precision.
        latency_ms: Median latency of one image.
        quality: mAP50-95.
        size_mb: Model file.
        best: No other way is both quicker and better.
    """

    label: str
    latency_ms: float
    quality: float
    size_mb: float | None
    best: bool = False


def latency_spreads(rows: Sequence[BenchmarkRow]) -> list[LatencySpread]:
    """The single-stream cells that ran, the quickest first."""
    spreads = [
        LatencySpread(
            label=shown_text(str(row["label"])),
            latencies_ms=tuple(row.get("latencies_ms") or ()),
            p50=row["metrics"]["latency_ms_p50"],
            p95=row["metrics"]["latency_ms_p95"],
            p99=row["metrics"]["latency_ms_p99"],
            longest=row["metrics"].get("latency_ms_max", row["metrics"]["latency_ms_p99"]),
            interval=(bounds[0], bounds[1]) if (bounds := row.get("median_interval")) else None,
        )
        for row in measured(rows, "single_stream")
    ]
    return sorted(spreads, key=lambda spread: spread.p50)


def plot_latency(spreads: Sequence[LatencySpread]) -> Figure:
    """One line a cell: the shape of its latencies with median, p95 and p99; the longest is named, never cut off."""
    from plotly.graph_objects import Figure, Scatter, Violin

    figure = Figure()
    ordered = list(reversed(spreads))  # the quickest at the top
    for spread in ordered:
        figure.add_trace(
            Violin(
                x=spread.latencies_ms or [spread.p50], y0=spread.label, orientation="h", side="positive", width=1.5,
                points=False, line={"color": GREY, "width": 1}, fillcolor="rgba(138,143,152,.22)", showlegend=False,
                hoverinfo="skip", spanmode="hard",
            )
        )  # fmt: skip
    for name, attribute, colour, symbol in (
        ("median", "p50", BLUE, "circle"), ("p95", "p95", ORANGE, "diamond"), ("p99", "p99", VERMILION, "square"),
    ):  # fmt: skip
        values = [getattr(spread, attribute) for spread in ordered]
        figure.add_trace(
            Scatter(
                x=values, y=[spread.label for spread in ordered], mode="markers", name=name,
                marker={"color": colour, "size": 11, "symbol": symbol, "line": {"color": "white", "width": 1}},
                error_x=_interval_bars(ordered) if attribute == "p50" else None,
                hovertemplate="%{y}<br>" + name + " %{x:.1f} ms<extra></extra>",
            )
        )  # fmt: skip
    edge = 1.18 * max((spread.p99 for spread in spreads), default=1.0)
    for spread in ordered:
        figure.add_annotation(
            x=edge, y=spread.label, text=f"max {spread.longest:.0f} ms", showarrow=False, xanchor="right", yshift=-14,
            font={"size": 11, "color": GREY},
        )  # fmt: skip
    figure.update_layout(
        **LAYOUT,
        title=title("How long one image takes, from file to boxes"),
        height=150 + 74 * max(len(spreads), 1),
        legend=LEGEND,
        violingap=0,
    )
    figure.update_xaxes(title_text="latency of one image (ms)", range=[0, edge])
    figure.update_yaxes(automargin=True, ticksuffix="  ")
    return figure


def stage_bars(rows: Sequence[BenchmarkRow]) -> list[StageBar]:
    """Where the time of one image goes, by single-stream cell, the quickest first."""
    ran = sorted(measured(rows, "single_stream"), key=lambda row: row["metrics"]["latency_ms_p50"])
    return [
        StageBar(
            shown_text(str(row["label"])),
            {
                name: float(row["stages"][name]["p50"])
                for name in STAGES
                if row.get("stages", {}).get(name, {}).get("p50")
            },
        )
        for row in ran
    ]


def plot_stages(bars: Sequence[StageBar]) -> Figure:
    """One stacked bar a cell, the quickest at the top."""
    from plotly.graph_objects import Bar, Figure

    figure = Figure()
    ordered = list(reversed(bars))
    for stage, (text, colour) in STAGES.items():
        values = [bar.stages.get(stage, 0.0) for bar in ordered]
        if not any(values):
            continue
        figure.add_trace(
            Bar(
                x=values, y=[bar.label for bar in ordered], name=text, orientation="h", marker_color=colour,
                hovertemplate="%{y}<br>" + text + " %{x:.2f} ms<extra></extra>",
            )
        )  # fmt: skip
    for bar in ordered:
        total = sum(bar.stages.values())
        figure.add_annotation(x=total, y=bar.label, text=f"{total:.1f} ms", showarrow=False, xanchor="left", xshift=6)
    figure.update_layout(
        **LAYOUT,
        title=title("Where the time of one image goes (medians)"),
        barmode="stack",
        bargap=0.45,
        height=150 + 48 * max(len(bars), 1),
        legend={**LEGEND, "traceorder": "normal"},
    )
    edge = max((sum(bar.stages.values()) for bar in bars), default=1.0)
    figure.update_xaxes(title_text="ms", range=[0, 1.15 * edge])
    figure.update_yaxes(automargin=True, ticksuffix="  ")
    return figure


def throughput_lines(rows: Sequence[BenchmarkRow]) -> list[ThroughputLine]:
    """Offline throughput over the batch sizes, one line for each backend and precision."""
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for row in measured(rows, "offline"):
        noise = float(row.get("noise", {}).get("throughput_fps") or 0.0)
        point = (int(row["batch"]), float(row["metrics"]["throughput_fps"]), noise)
        lines.setdefault(shown_text(str(row["label"])), []).append(point)
    made = [ThroughputLine(label, *zip(*sorted(points), strict=True)) for label, points in lines.items()]
    return sorted(made, key=lambda line: -max(line.fps))


def plot_throughput(lines: Sequence[ThroughputLine]) -> Figure:
    """Images per second against batch size; the bars are the noise between repetitions."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    batches = sorted({batch for line in lines for batch in line.batches})
    styles = _styles([line.label for line in lines])
    for line in lines:
        colour, symbol = styles[line.label]
        figure.add_trace(
            Scatter(
                x=[str(batch) for batch in line.batches], y=line.fps, name=line.label, mode="lines+markers",
                line={"color": colour, "width": 2.5}, marker={"size": 9, "symbol": symbol},
                error_y={
                    "type": "data",
                    "array": [fps * noise for fps, noise in zip(line.fps, line.noise, strict=True)],
                    "thickness": 1.2,
                },
                hovertemplate=line.label + "<br>batch %{x}: %{y:.1f} images/s<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(
        **LAYOUT, title=title("What batches bring (offline: as fast as it goes)"), height=400, legend=LEGEND
    )
    figure.update_xaxes(
        title_text="images per forward pass", type="category", categoryarray=[str(batch) for batch in batches]
    )
    figure.update_yaxes(title_text="images per second", rangemode="tozero")
    return figure


def quality_points(rows: Sequence[BenchmarkRow]) -> list[QualityPoint]:
    """What each way to run the model costs and finds, with those marked that none other beats in both."""
    quality = {str(row["label"]): row["detection"]["map50_95"] for row in rows if row.get("detection")}
    points = [
        QualityPoint(
            shown_text(str(row["label"])), float(row["metrics"]["latency_ms_p50"]), float(quality[str(row["label"])]),
            row.get("model_size_mb"),
        )
        for row in measured(rows, "single_stream")
        if str(row["label"]) in quality
    ]  # fmt: skip
    # Runtimes that agree to the fourth digit are equally good: what is left is rounding.
    front = pareto_front([(point.latency_ms, round(point.quality, 4)) for point in points])
    return [
        QualityPoint(point.label, point.latency_ms, point.quality, point.size_mb, best=number in front)
        for number, point in enumerate(points)
    ]


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Which points (cost, quality) no other one beats: at most as costly, at least as good, and better in one."""
    return {
        number
        for number, (cost, quality) in enumerate(points)
        if not any(
            other_cost <= cost and other_quality >= quality and (other_cost, other_quality) != (cost, quality)
            for other_cost, other_quality in points
        )
    }


def plot_quality(points: Sequence[QualityPoint]) -> Figure:
    """mAP50-95 against latency; the upper left is better, and the dashed line joins what nothing else beats."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    front = sorted((point for point in points if point.best), key=lambda point: point.latency_ms)
    figure.add_trace(
        Scatter(
            x=[point.latency_ms for point in front], y=[point.quality for point in front], mode="lines",
            line={"color": GREY, "dash": "dash", "width": 1.5, "shape": "hv"}, name="nothing is quicker and better",
            hoverinfo="skip",
        )
    )  # fmt: skip
    styles = _styles([point.label for point in points])
    for number, point in enumerate(sorted(points, key=lambda point: point.latency_ms)):
        colour, symbol = styles[point.label]
        size = "" if point.size_mb is None else f"<br>{point.size_mb:.1f} MB"
        figure.add_trace(
            Scatter(
                x=[point.latency_ms], y=[point.quality], mode="markers+text", text=[point.label],
                textposition="top center" if number % 2 else "bottom center", showlegend=False, cliponaxis=False,
                marker={"color": colour, "size": 15, "symbol": symbol, "line": {"color": "white", "width": 1.5}},
                hovertemplate=f"{point.label}<br>%{{x:.1f}} ms · mAP50-95 %{{y:.3f}}{size}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(**LAYOUT, title=title("What speed costs (upper left is better)"), height=430, legend=LEGEND)
    edge = 1.15 * max((point.latency_ms for point in points), default=1.0)
    figure.update_xaxes(title_text="median latency of one image (ms)", range=[0, edge])
    low, high = _span([point.quality for point in points])
    figure.update_yaxes(title_text="mAP50-95", range=[low, high], tickformat=".3f")
    return figure


def _styles(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and symbol of each label, the same in every plot of the same labels."""
    names = sorted(set(labels))
    return {name: (SERIES[number % len(SERIES)], _SYMBOLS[number % len(_SYMBOLS)]) for number, name in enumerate(names)}


def _interval_bars(spreads: Sequence[LatencySpread]) -> dict[str, Any] | None:
    if not any(spread.interval for spread in spreads):
        return None
    bounds = [spread.interval or (spread.p50, spread.p50) for spread in spreads]
    return {
        "type": "data",
        "array": [high - spread.p50 for spread, (_, high) in zip(spreads, bounds, strict=True)],
        "arrayminus": [spread.p50 - low for spread, (low, _) in zip(spreads, bounds, strict=True)],
        "thickness": 1.2,
    }


def _span(values: Sequence[float], *, least: float = 0.02) -> tuple[float, float]:
    """An axis that shows differences of 0.002 without making mountains of noise: at least 0.02 high."""
    if not values:
        return 0.0, 1.0
    middle = (min(values) + max(values)) / 2
    half = max((max(values) - min(values)) * 0.7, least / 2)
    return max(middle - half, 0.0), min(middle + half, 1.0)
