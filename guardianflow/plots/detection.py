"""How good detections are, as pictures: precision against recall, figures against confidence, who is taken for whom.

Each plot is two functions: one makes the data and can be tested, one draws it. The data come from
:meth:`guardianflow.evaluation.detection.evaluate.DetectionResult.curves` and ``to_dict()``, as plain JSON types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import FAINT, GREY, INK, LAYOUT, SCALE, SERIES, shown_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "ConfidencePlot", "ConfusionPlot", "Line", "PrecisionRecallPlot", "confidence_lines", "confusion_cells",
    "plot_confidence", "plot_confusion", "plot_precision_recall", "precision_recall_lines",
]  # fmt: skip

_COLOURED = 6  # more classes than colours are drawn faint, behind the mean
_Values = tuple[float | None, ...]


@dataclass(frozen=True)
class Line:
    """One curve; ``None`` where it has no figure."""

    label: str
    values: _Values


@dataclass(frozen=True)
class PrecisionRecallPlot:
    """Precision over recall, a panel an IoU.

    Attributes:
        recall: From 0 to 1.
        panels: IoU → the mean over the classes, and the classes with labelled boxes.
    """

    recall: tuple[float, ...]
    panels: Mapping[str, tuple[Line, tuple[Line, ...]]]


def precision_recall_lines(curves: Mapping[str, Any]) -> PrecisionRecallPlot:
    """The curves of an evaluation; each label carries the average precision."""
    panels = {}
    for iou, group in curves["precision_at_iou"].items():
        classes = tuple(
            Line(f"{shown_name(name)} {_mean(values):.2f}", tuple(values))
            for name, values in zip(curves["names"], group["classes"], strict=True)
            if values[0] is not None
        )
        panels[iou] = (Line(f"all classes {_mean(group['mean']):.2f}", tuple(group["mean"])), classes)
    return PrecisionRecallPlot(tuple(curves["recall"]), panels)


def plot_precision_recall(plot: PrecisionRecallPlot) -> Figure:
    """One panel an IoU side by side, the mean in front; the figure in a label is the average precision."""
    from plotly.subplots import make_subplots

    titles = [f"found at IoU {iou}" for iou in plot.panels]
    figure: Figure = make_subplots(rows=1, cols=len(titles), subplot_titles=titles, horizontal_spacing=0.09)
    for column, (mean, classes) in enumerate(plot.panels.values(), start=1):
        legend = "legend" if column == 1 else f"legend{column}"
        _draw_lines(figure, plot.recall, mean, classes, column=column, legend=legend)
        place = {"x": (column - 1) / len(titles), "y": -0.24, "yanchor": "top", "font": {"size": 12}}
        figure.update_layout({legend: place})
    figure.update_xaxes(title_text="recall: share of objects found", range=[0, 1.01])
    figure.update_yaxes(range=[0, 1.02])
    figure.update_yaxes(title_text="precision: share of boxes right", row=1, col=1)
    entries = max((len(classes) for _, classes in plot.panels.values()), default=0) + 1
    below = 70 + 20 * (entries if entries <= _COLOURED + 1 else 1)
    figure.update_layout(**LAYOUT)
    figure.update_layout(height=380 + below, margin_b=below)
    figure.update_layout({f"legend{number if number > 1 else ''}_y": -78 / 316 for number in range(1, len(titles) + 1)})
    return figure


@dataclass(frozen=True)
class ConfidencePlot:
    """Figures over the confidence.

    Attributes:
        confidence: From 0 to 1.
        means: Precision, recall and F1 over all classes.
        f1: F1 of all classes, and of each with labelled boxes.
        stated: The stated confidence.
        best: Where the mean F1 is highest.
    """

    confidence: tuple[float, ...]
    means: tuple[Line, ...]
    f1: tuple[Line, tuple[Line, ...]]
    stated: float
    best: float


def confidence_lines(curves: Mapping[str, Any]) -> ConfidencePlot:
    """The curves of an evaluation over the confidence."""
    over = curves["over_confidence"]
    labels = {"precision": "precision", "recall": "recall", "f1": "F1"}
    return ConfidencePlot(
        confidence=tuple(curves["confidence"]),
        means=tuple(Line(label, tuple(over[name]["mean"])) for name, label in labels.items()),
        f1=(
            Line("all classes", tuple(over["f1"]["mean"])),
            tuple(
                Line(shown_name(name), tuple(values))
                for name, values in zip(curves["names"], over["f1"]["classes"], strict=True)
                if values[0] is not None
            ),
        ),
        stated=curves["stated_confidence"],
        best=curves["best_f1_confidence"],
    )


def plot_confidence(plot: ConfidencePlot) -> Figure:
    """Precision, recall and F1 at the left, F1 by class at the right; the stated and the best confidence marked."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    titles = ("mean over the classes", "F1 by class")
    figure: Figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.09)
    for line, colour, dash in zip(plot.means, SERIES, ("solid", "dash", "dot"), strict=False):
        figure.add_trace(
            Scatter(x=plot.confidence, y=line.values, name=line.label, mode="lines", legend="legend",
                    line={"color": colour, "width": 2.5, "dash": dash}),
            row=1, col=1,
        )  # fmt: skip
    _draw_lines(figure, plot.confidence, *plot.f1, column=2, legend="legend2")
    marks = (
        (plot.best, 1.15, "solid", f"best F1 {plot.best:.2f}"),
        (plot.stated, 1.07, "dash", f"stated {plot.stated:g}"),
    )
    for value, height, dash, text in marks:  # one above the other, so that they never overlap
        figure.add_vline(value, row=1, col=1, line={"color": GREY, "width": 1, "dash": dash})
        figure.add_annotation(
            x=value, y=height, text=text, showarrow=False, xanchor="left" if value < 0.75 else "right", xshift=2,
            font={"size": 11, "color": INK}, row=1, col=1,
        )  # fmt: skip
    figure.update_xaxes(title_text="confidence: boxes below it are dropped", range=[0, 1])
    figure.update_yaxes(range=[0, 1.2], tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1.0])
    figure.update_yaxes(title_text="share (0–1)", row=1, col=1)
    figure.update_yaxes(title_text="F1 (0–1)", row=1, col=2)
    figure.update_layout(**LAYOUT)
    figure.update_layout(
        height=450,
        margin_b=110,
        legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        legend2={"orientation": "h", "x": 0.545, "y": -0.2, "yanchor": "top"},
    )
    return figure


@dataclass(frozen=True)
class ConfusionPlot:
    """Counts by true and predicted class.

    Attributes:
        true: Row names; the last is what is not labelled.
        predicted: Column names; the last is what is not found.
        counts: By row and column.
        shares: Of the row's boxes; in the last row, of the column's predictions. ``None`` where there are none.
    """

    true: tuple[str, ...]
    predicted: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[_Values, ...]


def confusion_cells(names: Sequence[str], counts: Sequence[Sequence[int]]) -> ConfusionPlot:
    """The cells of a confusion matrix; shares make rare and frequent classes comparable.

    Args:
        names: Class names.
        counts: (classes + 1) × (classes + 1), rows true, columns predicted, background last.
    """
    size = len(names)
    columns = [sum(row[place] for row in counts) for place in range(size + 1)]
    shares: list[_Values] = []
    for place, row in enumerate(counts):
        wholes = columns if place == size else [sum(row)] * (size + 1)
        shares.append(tuple(cell / whole if whole else None for cell, whole in zip(row, wholes, strict=True)))
    shown = tuple(shown_name(name) for name in names)
    return ConfusionPlot(
        (*shown, "nothing there"), (*shown, "not found"), tuple(tuple(row) for row in counts), tuple(shares)
    )


def plot_confusion(plot: ConfusionPlot) -> Figure:
    """Rows true, columns predicted; colour is the share of the row, the text is the count."""
    from plotly.graph_objects import Figure, Heatmap

    few = len(plot.true) <= 16
    texts = [[f"{count:,}" if count else "" for count in row] for row in plot.counts]
    texts[-1][-1] = ""  # nothing where nothing is: no such count exists
    rows = len(plot.true)
    figure = Figure(
        Heatmap(
            z=plot.shares, x=list(range(rows)), y=list(range(rows)), text=texts, customdata=plot.counts,
            texttemplate="%{text}" if few else None, colorscale=[list(stop) for stop in SCALE],
            zmin=0, zmax=1, xgap=2, ygap=2, hoverongaps=False,
            hovertemplate="%{y} → %{x}: %{customdata} boxes (%{z:.0%})<extra></extra>",
            colorbar={"title": {"text": "share of<br>the row"}, "tickformat": ".0%", "thickness": 12},
        )
    )  # fmt: skip
    places = list(range(rows))  # by number: two classes may look alike once shortened
    figure.update_xaxes(title_text="predicted as", tickvals=places, ticktext=plot.predicted, showgrid=False)
    figure.update_yaxes(
        title_text="labelled as", tickvals=places, ticktext=plot.true, autorange="reversed", showgrid=False,
        automargin=True,
    )  # fmt: skip
    figure.update_layout(**LAYOUT)
    side = (56 if few else 13) * rows
    figure.update_layout(height=220 + side, width=min(460 + side, 1000))
    if not few:
        figure.update_layout({f"{axis}axis_tickfont_size": 9 for axis in "xy"})
    return figure


def _draw_lines(
    figure: Figure, x: Sequence[float], mean: Line, classes: Sequence[Line], *, column: int, legend: str
) -> None:
    """The classes behind, each in its colour if there are few; the mean in front."""
    from plotly.graph_objects import Scatter

    few = len(classes) <= _COLOURED
    for place, line in enumerate(classes):
        colour = SERIES[place] if few else FAINT
        trace = Scatter(x=x, y=line.values, name=line.label, mode="lines", legend=legend, showlegend=few,
                        line={"color": colour, "width": 1.8 if few else 1})  # fmt: skip
        figure.add_trace(trace, row=1, col=column)
    label = mean.label if few else f"{mean.label} (grey: each of {len(classes)})"
    trace = Scatter(x=x, y=mean.values, name=label, mode="lines", legend=legend, line={"color": INK, "width": 3})
    figure.add_trace(trace, row=1, col=column)


def _mean(values: Sequence[float | None]) -> float:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else 0.0
