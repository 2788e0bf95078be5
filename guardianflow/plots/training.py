"""How a training went: curves over the epochs.

Each plot is two functions: one makes the data and can be tested, one draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import BLUE, GREY, LAYOUT, SERIES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["TrainingCurves", "plot_training", "training_curves"]

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
