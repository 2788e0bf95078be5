"""Colours that colour-blind people tell apart, after Okabe and Ito (https://jfly.uni-koeln.de/color/)."""

from __future__ import annotations

from typing import Any

__all__ = [
    "BLUE", "GREEN", "GREY", "LAYOUT", "LEGEND", "ORANGE", "PURPLE", "SERIES", "SKY", "VERMILION", "YELLOW", "title",
]  # fmt: skip

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
YELLOW = "#F0E442"
GREY = "#8A8F98"

SERIES = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)

LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "Inter, 'Noto Sans', 'Noto Sans CJK KR', 'Malgun Gothic', sans-serif", "size": 13},
    "margin": {"l": 56, "r": 24, "t": 64, "b": 48},
    "hoverlabel": {"namelength": -1},
    "colorway": list(SERIES),
}
"""What all figures share."""

LEGEND: dict[str, Any] = {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"}
"""A line below the figure."""


def title(text: str) -> dict[str, Any]:
    """A title above the left edge of the axes."""
    return {"text": text, "x": 0, "xref": "paper"}
