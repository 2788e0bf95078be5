"""Colours that colour-blind people tell apart, after Okabe and Ito (https://jfly.uni-koeln.de/color/)."""

from __future__ import annotations

from typing import Any

from guardianflow.text.printable import escape

__all__ = [
    "BLUE", "FAINT", "GREEN", "GREY", "INK", "LAYOUT", "LEGEND", "ORANGE", "PURPLE", "SCALE", "SERIES", "SKY",
    "VERMILION", "YELLOW", "shown_name", "shown_text", "title",
]  # fmt: skip

_LONGEST_NAME = 28

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
YELLOW = "#F0E442"
GREY = "#8A8F98"

SERIES = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)

INK = "#787D87"
"""Text, and the line that matters most: as far from white as from JupyterLab's dark page (contrast 4.2 on both)."""

FAINT = "rgba(128,134,145,0.4)"
"""What stands behind it."""

SCALE = ((0.0, "#DCE9F2"), (0.5, "#7FB8DA"), (1.0, "#00507E"))
"""From none to all, for heat maps."""

_CLEAR = "rgba(0,0,0,0)"
_AXIS = {
    "gridcolor": "rgba(128,134,145,0.22)", "zerolinecolor": "rgba(128,134,145,0.4)", "linecolor": FAINT,
    "automargin": True, "title": {"standoff": 12},
}  # fmt: skip

LAYOUT: dict[str, Any] = {
    "template": {"layout": {"xaxis": _AXIS, "yaxis": _AXIS, "hovermode": "closest"}},
    "paper_bgcolor": _CLEAR,
    "plot_bgcolor": _CLEAR,
    "font": {
        "family": "Inter, 'Noto Sans', 'Noto Sans CJK KR', 'Malgun Gothic', sans-serif", "size": 13, "color": INK,
    },
    "margin": {"l": 56, "r": 24, "t": 64, "b": 48},
    "hoverlabel": {"namelength": -1},
    "colorway": list(SERIES),
}  # fmt: skip
"""What all figures share. The page they stand on shows through them: a figure is drawn once, and a reader changes from
light to dark at any time."""

LEGEND: dict[str, Any] = {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"}
"""A line below the figure."""


def shown_name(name: str) -> str:
    """A class name as text; a long one would push the picture aside."""
    return shown_text(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…")


def shown_text(text: str) -> str:
    """What others wrote, as text: plotly reads markup in labels, and what stands between dollars as a formula."""
    return escape(text, quote=False).replace("$", "&#36;")


def title(text: str) -> dict[str, Any]:
    """A title above the left edge of the axes."""
    return {"text": text, "x": 0, "xref": "paper"}
