"""What a dataset holds: how often each class is labelled, and how large its boxes are to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import GREY, LAYOUT, SERIES, shown_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["SMALLEST_SIDE_PX", "DatasetFigures", "dataset_figures", "plot_dataset"]

SMALLEST_SIDE_PX = 8
"""Side below which a box is smaller than a cell of the finest feature map (stride 8)."""

_MOST_CLASSES = 30


@dataclass(frozen=True)
class DatasetFigures:
    """What the plot of a dataset shows.

    Attributes:
        classes: Class names, the most frequent last (it is drawn at the top).
        boxes: Split → number of boxes of each class.
        left_out: How many rarer classes are not shown.
        sizes: Class → widths and heights of boxes, in pixels of the model's input.
        small: Share of the boxes with a side below :data:`SMALLEST_SIDE_PX`; 0 without boxes.
        imgsz: Side of the model's input, in pixels.
    """

    classes: tuple[str, ...]
    boxes: Mapping[str, tuple[int, ...]]
    left_out: int
    sizes: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    small: float
    imgsz: int


def dataset_figures(
    boxes_per_class: Mapping[str, Mapping[str, int]], sizes: Sequence[tuple[str, float, float]], *, imgsz: int
) -> DatasetFigures:
    """The figures of a dataset.

    Args:
        boxes_per_class: Split → class → number of boxes.
        sizes: Class, width and height of some boxes, in pixels of the model's input.
        imgsz: Side of that input.
    """
    names = list(dict.fromkeys(name for counts in boxes_per_class.values() for name in counts))
    total = {name: sum(counts.get(name, 0) for counts in boxes_per_class.values()) for name in names}
    ordered = sorted(names, key=lambda name: total[name])
    shown = ordered[-_MOST_CLASSES:]
    small = sum(min(width, height) < SMALLEST_SIDE_PX for _, width, height in sizes)
    return DatasetFigures(
        classes=tuple(shown),
        boxes={split: tuple(counts.get(name, 0) for name in shown) for split, counts in boxes_per_class.items()},
        left_out=len(ordered) - len(shown),
        sizes={
            name: (
                tuple(width for other, width, _ in sizes if other == name),
                tuple(height for other, _, height in sizes if other == name),
            )
            for name in reversed(shown)
        },
        small=small / len(sizes) if sizes else 0.0,
        imgsz=imgsz,
    )


def plot_dataset(figures: DatasetFigures) -> Figure:
    """Boxes by class at the left; at the right each box by width and height, on logarithmic axes."""
    from plotly.graph_objects import Bar, Scatter
    from plotly.subplots import make_subplots

    more = f", {figures.left_out} rarer classes not shown" if figures.left_out else ""
    small = f", {figures.small:.0%} with a side under {SMALLEST_SIDE_PX} px" if figures.small else ""
    titles = [f"Labelled boxes by class{more}", f"Box sizes at imgsz {figures.imgsz}{small}"]
    figure: Figure = make_subplots(
        rows=1, cols=2, subplot_titles=titles, column_widths=[0.5, 0.5], horizontal_spacing=0.12
    )
    classes = [shown_text(name) for name in figures.classes]
    for (split, counts), colour in zip(
        reversed(list(figures.boxes.items())), (GREY, SERIES[0], SERIES[1]), strict=False
    ):
        bar = Bar(
            y=classes, x=counts, name=split, orientation="h", marker_color=colour, legend="legend",
            text=[f"{count:,}" for count in counts], textposition="outside", cliponaxis=False,
        )  # fmt: skip
        figure.add_trace(bar, row=1, col=1)
    for place, (name, (widths, heights)) in enumerate(figures.sizes.items()):
        marker = {"color": SERIES[place % len(SERIES)], "size": 5, "opacity": 0.45}
        dots = Scatter(x=widths, y=heights, mode="markers", name=shown_text(name), marker=marker, legend="legend2")
        figure.add_trace(dots, row=1, col=2)
    _draw_size_axes(figure, figures)
    below = {"orientation": "h", "y": -0.24, "yanchor": "top"}
    figure.update_layout(
        **LAYOUT,
        height=max(380, 170 + 34 * len(figures.classes)),
        bargap=0.3,
        legend={**below, "x": 0, "traceorder": "reversed"},
        legend2={**below, "x": 0.56, "itemsizing": "constant"},
    )
    most = max((count for counts in figures.boxes.values() for count in counts), default=0)
    figure.update_xaxes(range=[0, 1.18 * most or 1], showticklabels=False, row=1, col=1)
    figure.update_yaxes(automargin=True, ticksuffix="  ", row=1, col=1)
    return figure


def _draw_size_axes(figure: Any, figures: DatasetFigures) -> None:
    ticks = [side for side in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192) if side <= figures.imgsz]
    axis = {"type": "log", "tickvals": ticks, "ticktext": [str(side) for side in ticks]}
    figure.update_xaxes(**axis, title={"text": "width, px", "standoff": 6}, row=1, col=2)
    figure.update_yaxes(**axis, title={"text": "height, px", "standoff": 6}, row=1, col=2)
    if figures.small:
        # Annotations on a logarithmic axis take logarithms: what the lines mean is said in the title.
        line = {"color": GREY, "dash": "dash", "width": 1}
        figure.add_vline(SMALLEST_SIDE_PX, row=1, col=2, line=line)
        figure.add_hline(SMALLEST_SIDE_PX, row=1, col=2, line=line)
