"""Colours that colour-blind people tell apart, after Okabe and Ito (https://jfly.uni-koeln.de/color/)."""

from __future__ import annotations

from typing import Any

__all__ = ["BLUE", "GREEN", "GREY", "LAYOUT", "ORANGE", "PURPLE", "SERIES", "SKY", "VERMILION", "YELLOW"]

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
