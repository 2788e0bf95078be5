"""A comparison as pictures: what each class won or lost, and the curves of all models over each other.

Each plot is two functions: one makes the data and can be tested, one draws it. The rows are those of
:class:`guardianflow.execution.comparison_result.ComparisonResult`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.class_changes import ClassChange
from guardianflow.plots.detection import Line
from guardianflow.plots.palette import LAYOUT, SERIES, shown_name, shown_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["CurvePanel", "change_rows", "overlaid_curves", "plot_overlaid_curves"]

Row = Mapping[str, Any]

_MOST_CLASSES = 20
_PANELS, _COLUMNS = 6, 3
_DASHES = ("solid", "dash", "dot", "dashdot")


def change_rows(comparisons: Sequence[Row]) -> list[ClassChange]:
    """All classes in one row, then each class with labels, the greatest change first; a block a compared model.

    Args:
        comparisons: One row a model, each held against the first; of many classes only those that changed most stay.
    """
    found = []
    for compared in comparisons:
        of = f" · {shown_text(compared['name'])}" if len(comparisons) > 1 else ""
        labelled = [row for row in compared["per_class"] if row["difference"] is not None and row["low"] is not None]
        labelled.sort(key=lambda row: -abs(row["difference"]))
        found.append(_change(f"<b>all classes{of}</b>", compared))
        found += [_change(f"{shown_name(row['name'])}{of}", row) for row in labelled[:_MOST_CLASSES]]
    return found


def _change(name: str, row: Row) -> ClassChange:
    return ClassChange(
        name, before=row["champion"], after=row["candidate"], change=row["difference"], low=row["low"], high=row["high"]
    )


@dataclass(frozen=True)
class CurvePanel:
    """Precision over recall of one class, or of the mean over all: a line a model."""

    title: str
    lines: tuple[Line, ...]


def overlaid_curves(
    curves: Sequence[tuple[str, Row]], *, iou: str = "0.5"
) -> tuple[tuple[float, ...], list[CurvePanel]]:
    """Recall, and the panels: the mean first, then the classes whose curves differ most.

    Args:
        curves: Name of a model, and its curves as
            :meth:`guardianflow.evaluation.detection.evaluate.DetectionResult.curves` gives them.
        iou: Overlap from which a box is right.
    """
    names = curves[0][1]["names"]
    groups = [(name, each["precision_at_iou"][iou]) for name, each in curves]
    panels = [CurvePanel("all classes", tuple(_line(name, group["mean"]) for name, group in groups))]
    by_class = []
    for place, label in enumerate(names):
        if groups[0][1]["classes"][place][0] is None:
            continue  # nothing of it is labelled
        lines = tuple(_line(name, group["classes"][place]) for name, group in groups)
        areas = [sum(value or 0.0 for value in line.values) for line in lines]
        by_class.append((max(areas) - min(areas), CurvePanel(shown_name(label), lines)))
    by_class.sort(key=lambda item: -item[0])
    panels += [panel for _, panel in by_class[: _PANELS - 1]]
    return tuple(curves[0][1]["recall"]), panels


def _line(name: str, values: Sequence[float | None]) -> Line:
    return Line(shown_text(name), tuple(values))


def plot_overlaid_curves(recall: Sequence[float], panels: Sequence[CurvePanel]) -> Figure:
    """A panel a class; each model has its colour and its dashes in all of them."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    columns = min(len(panels), 2 if len(panels) == 4 else _COLUMNS)
    rows = -(-len(panels) // columns)
    figure: Figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=[panel.title for panel in panels], horizontal_spacing=0.06,
        vertical_spacing=0.3 / rows, shared_yaxes=True,
    )  # fmt: skip
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        for number, line in enumerate(panel.lines):
            colour = SERIES[number % len(SERIES)]
            figure.add_trace(
                Scatter(x=recall, y=line.values, name=line.label, legendgroup=line.label, showlegend=place == 0,
                        mode="lines", line={"color": colour, "width": 2.5, "dash": _DASHES[number % len(_DASHES)]},
                        hovertemplate="recall %{x:.2f}: precision %{y:.3f}"),
                row=row + 1, col=column + 1,
            )  # fmt: skip
    figure.update_xaxes(range=[0, 1.01], tickvals=[0, 0.5, 1])
    figure.update_yaxes(range=[0, 1.02])
    for column in range(columns):
        last = rows if column < len(panels) - (rows - 1) * columns else rows - 1
        figure.update_xaxes(title_text="recall", row=last, col=column + 1)
    for row in range(rows):
        figure.update_yaxes(title_text="precision", row=row + 1, col=1)
    figure.update_layout(**LAYOUT)
    figure.update_layout(
        height=110 + 260 * rows, legend={"orientation": "h", "x": 0, "y": 1 + 60 / (260 * rows), "yanchor": "bottom"},
        margin_t=110,
    )  # fmt: skip
    return figure
