"""How a training went: curves over the epochs, and the figures of each class.

Each plot is two functions: one makes the data and can be tested, one draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import BLUE, GREY, LAYOUT, ORANGE, SERIES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["ClassBars", "TrainingCurves", "class_bars", "plot_class_bars", "plot_training", "training_curves"]

_FEW_EPOCHS = 12
_QUALITY = {"map50": "mAP50", "map50_95": "mAP50-95", "precision": "precision", "recall": "recall"}


@dataclass(frozen=True)
class TrainingCurves:
    """Series over the epochs.

    Attributes:
        epochs: From 1.
        quality: Label → validation figure by epoch (fractions).
        losses: Loss name → (training, validation) by epoch.
        best_epoch: The epoch whose weights are ``best.pt``; ``None`` without epochs.
    """

    epochs: tuple[int, ...]
    quality: Mapping[str, tuple[float, ...]]
    losses: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    best_epoch: int | None


def training_curves(history: Sequence[Mapping[str, float]]) -> TrainingCurves:
    """The series of a training's history (one flat row an epoch)."""
    epochs = tuple(int(row["epoch"]) for row in history)
    nan = float("nan")

    def series(key: str) -> tuple[float, ...]:
        return tuple(float(row.get(key, nan)) for row in history)

    names = sorted({key.removeprefix("train/") for row in history for key in row if key.startswith("train/")})
    # Ultralytics keeps the epoch with the highest mAP50-95, the first of several equal ones.
    best = max(history, key=lambda row: row.get("map50_95", nan), default=None)
    return TrainingCurves(
        epochs=epochs,
        quality={label: series(key) for key, label in _QUALITY.items()},
        losses={name.replace("_", " "): (series(f"train/{name}"), series(f"val/{name}")) for name in names},
        best_epoch=int(best["epoch"]) if best else None,
    )


def plot_training(curves: TrainingCurves) -> Figure:
    """Quality at the left; one small panel a loss at the right, training against validation."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    rows = max(len(curves.losses), 1)
    specs: list[list[Any]] = [[{"rowspan": rows}, {}], *[[None, {}] for _ in range(rows - 1)]]
    titles = ["Validation quality by epoch", *curves.losses]
    figure: Figure = make_subplots(
        rows=rows, cols=2, specs=specs, subplot_titles=titles, column_widths=[0.6, 0.4], horizontal_spacing=0.1
    )
    mode = "lines" if len(curves.epochs) > _FEW_EPOCHS else "lines+markers"
    for (label, values), colour in zip(curves.quality.items(), SERIES, strict=False):
        line = {"color": colour, "width": 2.5 if label.startswith("mAP") else 1.5}
        line["dash"] = "solid" if label.startswith("mAP") else "dot"
        trace = Scatter(x=curves.epochs, y=values, name=label, mode=mode, line=line, legend="legend")
        figure.add_trace(trace, row=1, col=1)
    for row, (train, val) in enumerate(curves.losses.values(), start=1):
        for label, values, colour in (("training", train, GREY), ("validation", val, BLUE)):
            trace = Scatter(
                x=curves.epochs, y=values, name=label, mode=mode, line={"color": colour, "width": 2},
                legend="legend2", showlegend=row == 1,
            )  # fmt: skip
            figure.add_trace(trace, row=row, col=2)
    if curves.best_epoch is not None:
        figure.add_vline(
            curves.best_epoch, row=1, col=1, line={"color": GREY, "dash": "dash", "width": 1},
            annotation_text="best", annotation_position="top left",
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1.02], row=1, col=1)
    if len(curves.epochs) <= _FEW_EPOCHS:
        figure.update_xaxes(tickmode="linear", tick0=1, dtick=1)  # an epoch of 1.5 is none
    figure.update_xaxes(title_text="epoch", row=rows, col=2)
    figure.update_xaxes(title_text="epoch", row=1, col=1)
    figure.update_layout(
        **LAYOUT,
        height=460,
        legend={"orientation": "h", "x": 0.0, "y": -0.14, "yanchor": "top"},
        legend2={"orientation": "h", "x": 0.62, "y": -0.14, "yanchor": "top"},
    )
    return figure


@dataclass(frozen=True)
class ClassBars:
    """Average precision by class, the weakest class first.

    Attributes:
        labels: Class name with the number of labelled boxes; classes without one stand first, without figures.
        map50: By class; ``None`` where nothing is labelled.
        map50_95: By class; ``None`` where nothing is labelled.
    """

    labels: tuple[str, ...]
    map50: tuple[float | None, ...]
    map50_95: tuple[float | None, ...]


def class_bars(per_class: Sequence[Mapping[str, Any]]) -> ClassBars:
    """The bars of a training's per-class figures."""
    rows = sorted(per_class, key=lambda row: -1.0 if row["map50_95"] is None else row["map50_95"])
    return ClassBars(
        labels=tuple(f"{row['name']} ({row['boxes']:,} boxes)" for row in rows),
        map50=tuple(row["map50"] for row in rows),
        map50_95=tuple(row["map50_95"] for row in rows),
    )


def plot_class_bars(bars: ClassBars) -> Figure:
    """One pair of horizontal bars a class, the best at the top."""
    from plotly.graph_objects import Bar, Figure

    figure = Figure()
    for name, values, colour in (("mAP50-95", bars.map50_95, ORANGE), ("mAP50", bars.map50, BLUE)):
        figure.add_trace(
            Bar(
                y=bars.labels,
                x=values,
                name=name,
                orientation="h",
                marker_color=colour,
                text=["not labelled" if value is None else f"{value:.2f}" for value in values],
                textposition="outside",
                cliponaxis=False,
            )
        )
    figure.update_layout(
        **LAYOUT,
        title={"text": "Average precision by class", "x": 0, "xref": "paper"},
        height=150 + 58 * max(len(bars.labels), 1),
        bargap=0.3,
        legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "traceorder": "reversed"},
    )
    figure.update_xaxes(range=[0, 1.08], showticklabels=False)
    figure.update_yaxes(automargin=True, ticksuffix="  ")
    return figure
