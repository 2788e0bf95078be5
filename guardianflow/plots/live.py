"""A figure as a widget; its colours are those of the page that it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["LIVE_STYLE", "live"]

LIVE_STYLE = """
.gf .js-plotly-plot .main-svg,.gf .js-plotly-plot .svg-container{background:transparent!important}
.gf .js-plotly-plot .bg{fill:transparent!important}
.gf .js-plotly-plot :is(.xtick,.ytick,.legend,.annotation,.g-xtitle,.g-ytitle,.g-gtitle) text{fill:var(--ink)!important}
.gf .js-plotly-plot :is(.gridlayer,.zerolinelayer) path{stroke:var(--line)!important}
"""
"""Plotly writes colours into each element; these go before them."""


def live(figure: Figure) -> Any:
    """The figure as a widget that fills its place, without plotly's logo and link."""
    from plotly.graph_objects import FigureWidget

    made = FigureWidget(figure)
    made.update_layout(autosize=True, width=None)
    made._config = {"displaylogo": False, "responsive": True}  # noqa: SLF001 - there is no other way to it
    return made
