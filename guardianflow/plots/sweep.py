"""How a sweep went: its trials in order, what made the difference, and which values go with which result.

Each plot is two functions: one makes the data and can be tested, one draws it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.plots.palette import BLUE, GREY, LAYOUT, LEGEND, ORANGE, VERMILION, shown_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "Axis", "History", "Lines", "SweepTrial", "parallel_lines", "plot_history", "plot_importance", "plot_parallel",
    "sweep_history",
]  # fmt: skip

_MOST_LINES = 150
_MOST_CHOICES = 12
_LOG_FROM = 20.0
_SCALE = ((0.0, "#AEB5C0"), (0.5, "#56B4E9"), (1.0, "#00507E"))
_MARKS = {"finished": (BLUE, "circle"), "pruned": (ORANGE, "diamond"), "failed": (VERMILION, "x")}


@dataclass(frozen=True)
class SweepTrial:
    """What is drawn of a trial: number, state, value (``None``: there is none), point, whether it is the best."""

    number: int
    state: str
    value: float | None
    point: Mapping[str, Any]
    best: bool = False


# --- history --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """Trials in their order.

    Attributes:
        groups: State → (numbers, values, what a reader is told of each).
        steps: Numbers and values of the best so far, of finished trials.
    """

    groups: Mapping[str, tuple[tuple[int, ...], tuple[float, ...], tuple[str, ...]]]
    steps: tuple[tuple[int, ...], tuple[float, ...]]


def sweep_history(trials: Sequence[SweepTrial]) -> History:
    """The points of each state, and the line of the best value so far; failed trials lie at the lower edge."""
    ordered = sorted(trials, key=lambda trial: trial.number)
    known = [trial.value for trial in ordered if trial.value is not None]
    lowest = min(known, default=0.0)
    groups: dict[str, tuple[tuple[int, ...], tuple[float, ...], tuple[str, ...]]] = {}
    for state in _MARKS:
        some = [trial for trial in ordered if trial.state == state]
        if some:
            values = tuple(lowest if trial.value is None else trial.value for trial in some)
            groups[state] = tuple(trial.number for trial in some), values, tuple(map(_told, some))
    numbers: list[int] = []
    best: list[float] = []
    for trial in ordered:
        if trial.state == "finished" and trial.value is not None and trial.value > max(best, default=-math.inf):
            numbers.append(trial.number)
            best.append(trial.value)
    if numbers and numbers[-1] != ordered[-1].number:
        numbers.append(ordered[-1].number)
        best.append(best[-1])
    return History(groups, (tuple(numbers), tuple(best)))


def plot_history(trials: Sequence[SweepTrial], *, metric: str) -> Figure:
    """A mark a trial, and a step where one was better than all before."""
    from plotly.graph_objects import Figure, Scatter

    history, figure = sweep_history(trials), Figure()
    numbers, best = history.steps
    line = {"color": GREY, "width": 1.5, "shape": "hv"}
    figure.add_trace(Scatter(x=numbers, y=best, mode="lines", name="best so far", line=line, hoverinfo="skip"))
    for state, (places, values, told) in history.groups.items():
        colour, symbol = _MARKS[state]
        marker = {"color": colour, "symbol": symbol, "size": 9}
        figure.add_trace(
            Scatter(x=places, y=values, mode="markers", name=state, marker=marker, text=told,
                    hovertemplate="%{text}<extra></extra>")
        )  # fmt: skip
    figure.update_layout(**LAYOUT)
    figure.update_layout(height=360, legend=LEGEND, margin={**LAYOUT["margin"], "t": 24, "b": 92})
    figure.update_xaxes(title_text="trial", nticks=13, tickformat="d")
    if len(trials) <= _MOST_CHOICES:
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(title_text=metric)
    return figure


def _told(trial: SweepTrial) -> str:
    value = "no value" if trial.value is None else f"{trial.value:.4f}"
    values = "<br>".join(f"{shown_name(name)} = {shown_name(_text(what))}" for name, what in trial.point.items())
    return f"<b>trial {trial.number}</b> {trial.state} · {value}<br>{values}"


# --- importance -----------------------------------------------------------------------------------


def plot_importance(importance: Mapping[str, float]) -> Figure:
    """A bar a field, the one that makes most of the difference at the top."""
    from plotly.graph_objects import Bar, Figure

    figure = Figure()
    figure.update_layout(**LAYOUT)
    if not importance:
        return _empty(figure, "Too few trials differ to say which field makes the difference.")
    ordered = sorted(importance.items(), key=lambda item: item[1])
    figure.add_trace(
        Bar(y=[shown_name(_short(name)) for name, _ in ordered], x=[share for _, share in ordered], orientation="h",
            marker_color=BLUE, text=[f"{share:.0%}" for _, share in ordered], textposition="outside",
            cliponaxis=False, hovertemplate="%{y}: %{x:.1%}<extra></extra>")
    )  # fmt: skip
    figure.update_xaxes(
        range=[0, 1.12], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1], title_text="share of the differences"
    )
    figure.update_yaxes(automargin=True, ticklabelstandoff=8)
    figure.update_layout(height=110 + 40 * len(ordered), bargap=0.35, margin={**LAYOUT["margin"], "t": 24, "b": 56})
    return figure


# --- parallel coordinates -------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """One upright axis.

    Attributes:
        name: Field.
        ticks: Place (0–1) and text of what stands beside it.
    """

    name: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Lines:
    """A line a trial over the axes; the last axis is the result.

    Attributes:
        axes: In the order of the fields, then the result.
        lines: Of each trial its place on every axis (0–1), the best result last, so that it lies on top.
        told: What a reader is told of each.
        left_out: How many trials are not drawn: without a result, or too many.
    """

    axes: tuple[Axis, ...]
    lines: tuple[tuple[float, ...], ...]
    told: tuple[str, ...]
    left_out: int


def parallel_lines(trials: Sequence[SweepTrial], *, metric: str) -> Lines:
    """The lines of the trials that have a result, the best ones where there are more than can be told apart."""
    known = sorted((trial for trial in trials if trial.value is not None), key=lambda trial: trial.value or 0.0)
    drawn = known[-_MOST_LINES:]
    names = list(dict.fromkeys(name for trial in drawn for name in trial.point))
    columns = [_axis(name, [trial.point.get(name) for trial in drawn]) for name in names]
    columns.append(_axis(metric, [trial.value for trial in drawn]))
    lines = tuple(zip(*(places for _, places in columns), strict=True))
    return Lines(tuple(axis for axis, _ in columns), lines, tuple(map(_told, drawn)), len(trials) - len(drawn))


def _axis(name: str, values: Sequence[Any]) -> tuple[Axis, list[float]]:
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    different = sorted({*numbers})
    if len(numbers) < len(values) or (len(different) < 2 and numbers):
        return _choices(name, values)
    if not different:
        return Axis(name, ()), []
    low, high = different[0], different[-1]
    log = low > 0 and high / low >= _LOG_FROM
    place = math.log if log else float
    span = place(high) - place(low)
    shown = different if len(different) <= 4 else [low, math.sqrt(low * high) if log else (low + high) / 2, high]
    ticks = tuple(((place(value) - place(low)) / span, _text(_whole(value, different))) for value in shown)
    return Axis(name, ticks), [(place(value) - place(low)) / span for value in numbers]


def _choices(name: str, values: Sequence[Any]) -> tuple[Axis, list[float]]:
    texts = [_text(value) for value in values]
    known = list(dict.fromkeys(texts))
    where = {text: (place / (len(known) - 1) if len(known) > 1 else 0.5) for place, text in enumerate(known)}
    every = -(-len(known) // _MOST_CHOICES)
    return Axis(name, tuple((where[text], text) for text in known[::every])), [where[text] for text in texts]


def plot_parallel(trials: Sequence[SweepTrial], *, metric: str) -> Figure:
    """Upright axes beside each other, a line a trial, dark where the result is good."""
    from plotly.graph_objects import Figure, Scatter

    found, figure = parallel_lines(trials, metric=metric), Figure()
    figure.update_layout(**LAYOUT)
    if len(found.lines) < 2:
        return _empty(figure, "Too few trials have a result to compare their values.")
    places = list(range(len(found.axes)))
    for line, told in zip(found.lines, found.told, strict=True):
        is_best = line is found.lines[-1]
        look = {"color": _shade(line[-1]), "width": 3.5 if is_best else 1.5}
        figure.add_trace(
            Scatter(x=places, y=line, mode="lines", line=look, opacity=1 if is_best else 0.75, text=[told] * len(line),
                    hovertemplate="%{text}<extra></extra>", showlegend=False)
        )  # fmt: skip
    _draw_axes(figure, found.axes)
    if found.left_out:
        figure.add_annotation(
            text=f"{found.left_out} more without a result, or behind these", x=0, y=0, xref="paper", yref="paper",
            yshift=-34, xanchor="left", showarrow=False, font={"size": 12, "color": GREY},
        )  # fmt: skip
    return figure


def _draw_axes(figure: Figure, axes: Sequence[Axis]) -> None:
    for place, axis in enumerate(axes):
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": GREY, "width": 1}, layer="below")
        figure.add_annotation(
            x=place, y=1, yshift=26, text=f"<b>{shown_name(_short(axis.name))}</b>", showarrow=False, font={"size": 12}
        )
        for height, text in axis.ticks:
            figure.add_annotation(
                x=place, y=height, xshift=5, xanchor="left", text=shown_name(text), showarrow=False,
                font={"size": 11}, borderpad=1,
            )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.25, len(axes) - 0.5])
    figure.update_yaxes(visible=False, range=[-0.06, 1.04])
    figure.update_layout(height=420, margin={"l": 16, "r": 16, "t": 56, "b": 40}, hovermode="closest")


def _shade(share: float) -> str:
    """The colour of a result, from none (0) to best (1)."""
    upper = next(place for place, (stop, _) in enumerate(_SCALE) if stop >= min(max(share, 1e-9), 1.0))
    (low, first), (high, second) = _SCALE[upper - 1], _SCALE[upper]
    part = (share - low) / (high - low)
    parts = [round(int(first[at : at + 2], 16) * (1 - part) + int(second[at : at + 2], 16) * part) for at in (1, 3, 5)]
    return f"rgb({parts[0]},{parts[1]},{parts[2]})"


def _short(name: str) -> str:
    """``run.options.lr0`` → ``lr0``: what sets the fields apart."""
    return name.rpartition(".")[2]


def _whole(value: float, all_of_them: Sequence[float]) -> float | int:
    return round(value) if all(each == int(each) for each in all_of_them) else value


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _empty(figure: Figure, text: str) -> Figure:
    figure.update_layout(height=120)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14})
    return figure
