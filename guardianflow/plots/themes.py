"""Light and dark figures, and names in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from guardianflow.exceptions import NotFoundError
from guardianflow.plots.palette import BLUE, GREEN, LAYOUT, ORANGE, PURPLE, SKY, VERMILION, YELLOW

__all__ = ["THEMES", "Theme", "shown_name", "theme_named"]

_LONGEST_NAME = 28


@dataclass(frozen=True)
class Theme:
    """What a figure takes from the page it stands on.

    Attributes:
        layout: For ``update_layout``.
        ink: Colour of the line that matters most, and of text.
        faint: Colour of what stands behind it.
        series: Colours of classes, in order; each stands out from the background.
        scale: From none to all, for heat maps.
    """

    layout: Mapping[str, Any]
    ink: str
    faint: str
    series: tuple[str, ...]
    scale: tuple[tuple[float, str], ...]


THEMES: Mapping[str, Theme] = {
    "light": Theme(
        layout=LAYOUT, ink="#1F2933", faint="#C5CAD3", series=(BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY),
        scale=((0.0, "#FFFFFF"), (0.5, "#7FB8DA"), (1.0, "#00507E")),
    ),
    "dark": Theme(
        layout={**LAYOUT, "template": "plotly_dark", "paper_bgcolor": "#15191E", "plot_bgcolor": "#15191E"},
        ink="#F2F4F7", faint="#525B68", series=(SKY, ORANGE, "#2FC79A", VERMILION, PURPLE, YELLOW),
        scale=((0.0, "#15191E"), (0.5, "#17608C"), (1.0, "#8CCBF2")),
    ),
}  # fmt: skip
"""Name → theme."""


def theme_named(name: str) -> Theme:
    """A theme by its name.

    Raises:
        NotFoundError: There is no such theme.
    """
    if name not in THEMES:
        raise NotFoundError(f"no theme is called {name!r}; there are: {', '.join(THEMES)}")
    return THEMES[name]


def shown_name(name: str) -> str:
    """A class name as text: plotly reads markup in labels, and a long one would push the picture aside."""
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    return escape(short, quote=False)
