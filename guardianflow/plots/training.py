"""How a training went: curves over the epochs.

Each plot is two functions: one makes the data and can be tested, one draws it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import BLUE, GREY, LAYOUT, SERIES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["TrainingCurves", "plot_training", "sketch_training", "training_curves"]

_FEW_EPOCHS = 12
_FONT = f'font-family="sans-serif" font-size="12" fill="{GREY}"'
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


def sketch_training(curves: TrainingCurves) -> str:
    """Quality and the sum of the losses as a small SVG picture: one that is drawn again and again during a training."""
    quality = {label: curves.quality[label] for label in ("mAP50", "mAP50-95")}
    losses = {
        name: tuple(map(sum, zip(*(pair[side] for pair in curves.losses.values()), strict=True)))
        for side, name in enumerate(("training", "validation"))
    }
    most = max((value for row in losses.values() for value in row if math.isfinite(value)), default=1.0) or 1.0
    panels = _panel("Validation quality by epoch", quality, 50, 1.0), _panel("Sum of the losses", losses, 420, most)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="230" {_FONT}>{"".join(panels)}</svg>'


def _panel(title: str, rows: Mapping[str, Sequence[float]], left: int, most: float) -> str:
    """Lines over the epochs in a frame of 300 × 150."""
    count = max(map(len, rows.values()))
    parts = [f'<text x="{left}" y="16" font-weight="bold">{title}</text>']
    for share in (0.0, 0.5, 1.0):
        y = 180 - 150 * share
        parts.append(f'<path d="M{left} {y}h300" stroke="{GREY}" stroke-opacity="0.4"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{most * share:.3g}</text>')
    for place, ((label, values), colour) in enumerate(zip(rows.items(), SERIES, strict=False)):
        spots = [
            f"{left + 300 * (epoch + 1) / (count + 1):.1f},{180 - 150 * min(value / most, 1.0):.1f}"
            for epoch, value in enumerate(values)
            if math.isfinite(value)
        ]
        parts.append(f'<polyline points="{" ".join(spots)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if spots:
            across, _, down = spots[-1].partition(",")
            parts.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="{left + 110 * place}" y="220" style="fill:{colour}">{label}</text>')
    last = f"epoch {count}" if count else ""
    return "".join([*parts, f'<text x="{left + 300}" y="200" text-anchor="end">{last}</text>'])


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
