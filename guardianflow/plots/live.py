"""A figure as a widget; its colours are those of the page that it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["LIVE_STYLE", "live"]

_FRAME_PX = 16

LIVE_STYLE = """
.gf .js-plotly-plot .main-svg,.gf .js-plotly-plot .svg-container{background:transparent!important}
.gf .js-plotly-plot .bg{fill:transparent!important}
.gf .js-plotly-plot :is(.xtick,.ytick,.legend,.annotation,[class^="g-"]) text{fill:var(--ink)!important}
.gf .js-plotly-plot :is(.gridlayer,.zerolinelayer) path{stroke:var(--line)!important}
"""
"""Plotly writes colours into each element; these go before them."""


def live(figure: Figure, width_px: int) -> Any:
    """The figure as a widget of this width, without plotly's logo and link."""
    from plotly.graph_objects import FigureWidget

    made = FigureWidget(figure)
    made.update_layout(width=width_px - _FRAME_PX)
    made._config = {"displaylogo": False}  # noqa: SLF001 - there is no other way to it
    return made
